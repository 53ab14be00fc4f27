#include "recipes/trainer/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lacuna {

std::string FormatDuration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string FormatCount(int64_t count) {
  const std::string digits = std::to_string(count < 0 ? -count : count);
  std::string text;
  if (count < 0) text.push_back('-');
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string Format(const ProgressLine& line) {
  const std::string total = std::to_string(line.total_steps);
  std::string text =
      fmt::format("step {:>{}}/{}  loss {:.4f}  norm {:.3f}  lr {:.1e}  {} tok/s", line.step,
                  total.size(), total, line.loss, line.gradient_norm, line.learning_rate,
                  FormatCount(static_cast<int64_t>(line.tokens_per_second)));
  if (line.model_flops_utilization >= 0)
    text += fmt::format("  MFU {:.1f} %", 100 * line.model_flops_utilization);
  return text + fmt::format("  ETA {}", FormatDuration(line.seconds_left));
}

namespace {

// Under mpirun a rank's stdout is always a pseudo terminal; what counts is where mpirun, its
// parent, writes to.
bool WritesToTerminal() {
  if (isatty(STDOUT_FILENO) == 0) return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return true;
  char target[64] = {};
  const std::string link = fmt::format("/proc/{}/fd/1", getppid());
  return readlink(link.c_str(), target, sizeof(target) - 1) > 0 &&
         (std::strncmp(target, "/dev/pts/", 9) == 0 || std::strncmp(target, "/dev/tty", 8) == 0);
}

}  // namespace

Progress::Progress() : terminal_(WritesToTerminal()) {}

void Progress::Show(const ProgressLine& line) {
  if (terminal_) {
    std::printf("\r\033[K%s", Format(line).c_str());
    open_ = true;
  } else {
    std::printf("%s\n", Format(line).c_str());
  }
  std::fflush(stdout);
}

void Progress::Break() {
  if (open_) std::printf("\n");
  open_ = false;
}

}  // namespace lacuna
