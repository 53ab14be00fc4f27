// What a long evaluation is doing: a line on a terminal that is rewritten in place; nothing where
// stderr is none.
#pragma once

#include <chrono>
#include <string>

namespace lacuna {

class StatusLine {
 public:
  StatusLine();
  StatusLine(const StatusLine&) = delete;
  // Clears the line.
  ~StatusLine();
  // At most twice a second.
  void Show(const std::string& text);

 private:
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace lacuna
