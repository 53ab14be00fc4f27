// Runs cases one after the other in child processes, so that a crash, a hang or a huge allocation
// ends only the case and is reported with its number.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lacuna::test {

struct CaseResult {
  bool accepted = false;
  std::string complaint = {};  // empty: all is well
};

struct Complaint {
  int64_t number = 0;  // of the case
  std::string text;
};

struct SandboxReport {
  int64_t cases = 0;
  int64_t accepted = 0;
  double slowest_seconds = 0;  // of processor time
  std::vector<Complaint> complaints;
};

// Cases 0 to count - 1; stops after ten complaints. A case of more than a second of processor time,
// `deadline_seconds` of any time (other programs' is among it), or 2 GiB of memory is a complaint,
// too.
SandboxReport RunCases(int64_t count, const std::function<CaseResult(int64_t number)>& run,
                       unsigned deadline_seconds = 120);

}  // namespace lacuna::test
