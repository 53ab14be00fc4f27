#include "core/out_of_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace lacuna {
namespace {

std::string Row(const std::string& name, const std::string& in_use, const std::string& at_peak,
                const std::string& own_peak) {
  std::string row = fmt::format("  {:<24}{:>12}{:>12}{:>12}", name, in_use, at_peak, own_peak);
  row.erase(row.find_last_not_of(' ') + 1);
  return row + "\n";
}

std::string Headline(const OutOfMemory& request) {
  std::string text = "out of memory on the CPU";
  if (request.device.type == DeviceType::kCuda) {
    text = fmt::format("out of memory on CUDA device {}", request.device.index);
    if (!request.device_name.empty()) text += fmt::format(" ({})", request.device_name);
  }
  text += ": ";
  if (!request.call.empty()) {
    text += request.call + " failed";
  } else {
    text += fmt::format("{} asked for {}", FormatMemory(request.bytes), NameOf(request.category));
  }
  if (request.limit > 0)
    return text + fmt::format(", past the limit of {}", FormatMemory(request.limit));
  if (request.total > 0) {
    text += fmt::format(", {} free of {}", FormatMemory(request.free), FormatMemory(request.total));
  }
  return text;
}

std::string Describe(const OutOfMemory& request, const std::string& advice) {
  std::string text = Headline(request) + "\n" + MemoryTable(request.stats);
  const int64_t elsewhere = request.total - request.free - request.stats.reserved;
  // Of the machine's memory much is always held by others.
  if (request.device.type == DeviceType::kCuda && request.total > 0 && elsewhere > 0) {
    text += Row("elsewhere", FormatMemory(elsewhere), "", "");
    text += "  (elsewhere: CUDA and its libraries, other processes on the card)\n";
  }
  text += advice;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::string FormatMemory(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.995 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 2, kUnits[unit]);
}

std::string MemoryTable(const MemoryStats& stats) {
  std::string table = Row("memory", "in use", "at peak", "own peak");
  for (size_t i = 0; i < kNumMemoryCategories; ++i) {
    const MemoryStats::Category& category = stats.categories[i];
    if (category.peak == 0) continue;
    table += Row(NameOf(static_cast<MemoryCategory>(i)), FormatMemory(category.in_use),
                 FormatMemory(category.at_peak), FormatMemory(category.peak));
  }
  table += Row("total", FormatMemory(stats.in_use), FormatMemory(stats.peak), "");
  table += Row("kept for reuse", FormatMemory(std::max<int64_t>(0, stats.reserved - stats.in_use)),
               "", "");
  return table;
}

std::string PeakSummary(const MemoryStats& stats) {
  std::vector<std::pair<int64_t, const char*>> parts;
  int64_t rest = 0;
  for (size_t i = 0; i < kNumMemoryCategories; ++i) {
    const int64_t bytes = stats.categories[i].at_peak;
    if (100 * bytes >= stats.peak && bytes > 0) {
      parts.emplace_back(bytes, NameOf(static_cast<MemoryCategory>(i)));
    } else {
      rest += bytes;
    }
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  if (rest > 0) parts.emplace_back(rest, "rest");
  std::string text = FormatMemory(stats.peak);
  for (size_t i = 0; i < parts.size(); ++i) {
    text += fmt::format("{}{} {}", i == 0 ? " = " : " + ", parts[i].second,
                        FormatMemory(parts[i].first));
  }
  return text;
}

OutOfMemoryError::OutOfMemoryError(OutOfMemory request, const std::string& advice)
    : Error(Describe(request, advice)),
      request_(std::make_shared<const OutOfMemory>(std::move(request))) {}

}  // namespace lacuna
