#include "recipes/trainer/self_test_ways.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "core/status.h"

namespace lacuna {
namespace {

std::vector<DType> TypesOn(Device device) {
  if (device.type == DeviceType::kCuda) return {DType::kF32, DType::kBF16};
  return {DType::kF64, DType::kF32};
}

std::vector<SelfTestWay> AllWays(int ranks, const std::vector<DType>& types) {
  const bool halves = ranks % 2 == 0 && ranks > 2;
  std::vector<SelfTestWay> ways;
  for (const DType dtype : types) {
    ways.push_back({dtype, 1, 0, false});
    if (ranks == 1) continue;
    ways.push_back({dtype, 1, 2, true});
    ways.push_back({dtype, 1, 3, true});
    if (halves) ways.push_back({dtype, 2, 2, false});
    ways.push_back({dtype, ranks, 0, false});
    ways.push_back({dtype, ranks, 2, true});
    ways.push_back({dtype, ranks, 3, false});
    if (kSelfTestRows % (2 * ranks) == 0) ways.push_back({dtype, ranks, 2, false, ranks});
    if (halves) ways.push_back({dtype, 1, 0, true, 2});
    if (halves) ways.push_back({dtype, 2, 3, false, 1, 2});
  }
  return ways;
}

}  // namespace

std::string SelfTestWay::Describe() const {
  const auto over = [](const char* what, int ranks) {
    return ranks > 1 ? fmt::format(", {} over {} ranks", what, ranks) : "";
  };
  return fmt::format("{}{}{}{}, zero {}{}", NameOf(dtype), over("experts", expert),
                     over("samples", context), over("shares", shard), zero,
                     recompute ? ", recompute" : "");
}

absl::StatusOr<std::vector<SelfTestWay>> ChosenWays(int ranks, Device device,
                                                    const SelfTestOptions& options) {
  std::vector<DType> types = TypesOn(device);
  if (options.dtype) {
    if (std::find(types.begin(), types.end(), *options.dtype) == types.end()) {
      return MakeError(ExitCode::kConfig,
                       fmt::format("selftest: dtype {}: {} and {} are tested on this device",
                                   NameOf(*options.dtype), NameOf(types[0]), NameOf(types[1])));
    }
    types = {*options.dtype};
  }
  const std::regex pattern(options.match);
  std::vector<SelfTestWay> chosen;
  std::string all;
  for (const SelfTestWay& way : AllWays(ranks, types)) {
    const std::string what = way.Describe();
    all += "\n  " + what;
    if (std::regex_search(what, pattern)) chosen.push_back(way);
  }
  if (!chosen.empty()) return chosen;
  return MakeError(ExitCode::kConfig,
                   fmt::format("selftest: {} is found in no way of sharing among {} ranks:{}",
                               options.match, ranks, all));
}

}  // namespace lacuna
