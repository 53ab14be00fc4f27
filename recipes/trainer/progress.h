// The progress line of a run: rewritten in place on a terminal, a plain line otherwise.
#pragma once

#include <cstdint>
#include <string>

namespace lacuna {

struct ProgressLine {
  int64_t step = 0;  // steps done
  int64_t total_steps = 0;
  double loss = 0;
  double gradient_norm = 0;
  double learning_rate = 0;
  double tokens_per_second = 0;        // all ranks
  double model_flops_utilization = 0;  // of the measured matmul peak; < 0 where no peak is known
  double seconds_left = 0;
};

// "step  120/400  loss 4.1234  norm 0.913  lr 2.9e-03  5,321 tok/s  MFU 41.2 %  ETA 2:13"
std::string Format(const ProgressLine& line);
// 7384 -> "2:03:04", 133 -> "2:13".
std::string FormatDuration(double seconds);
// 1234567 -> "1,234,567".
std::string FormatCount(int64_t count);

class Progress {
 public:
  Progress();
  // Whether lines are rewritten in place: then every step may be shown.
  bool live() const { return terminal_; }
  void Show(const ProgressLine& line);
  // Ends a line being rewritten, so that other output starts on its own.
  void Break();

 private:
  bool terminal_;
  bool open_ = false;
};

}  // namespace lacuna
