#include <fmt/format.h>

#include <algorithm>

#include "recipes/trainer/self_test.h"

namespace lacuna {

bool SelfTestResult::passed() const {
  return std::all_of(rows.begin(), rows.end(), [](const SelfTestRow& r) { return r.passed(); });
}

std::string TitleLine() {
  return fmt::format("{:56} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>9}\n",
                     "largest difference from one rank", "loss", "norm", "telemetry", "bias",
                     "limit", "routed alike", "near ties");
}

std::string Line(const SelfTestRow& row) {
  return fmt::format("{:56} {:9.1e} {:9.1e} {:9.1e} {:9.1e} {:9.0e} {:10.2f} % {:9}{}{}\n",
                     row.what, row.loss, row.norm, row.telemetry, row.bias, row.limit,
                     100 * row.routing.share(), row.routing.near_ties,
                     row.late_loss > 0 ? fmt::format("  other choices from step {} on: loss {:.1e}",
                                                     row.steps_alike + 1, row.late_loss)
                                       : "",
                     row.passed() ? "" : "  FAILED");
}

std::string SelfTestResult::Table() const {
  std::string text = TitleLine();
  for (const SelfTestRow& row : rows) text += Line(row);
  return text;
}

}  // namespace lacuna
