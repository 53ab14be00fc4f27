#include "recipes/evaluation/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/io/file.h"
#include "core/status.h"
#include "core/stream.h"

namespace lacuna {

std::string ReportPath(const std::string& run_dir, const std::string& name,
                       const std::string& output) {
  if (!output.empty()) return output;
  return (std::filesystem::path(run_dir) / "eval" / (name + ".json")).string();
}

std::string LinesPath(const std::string& report_path) {
  return std::filesystem::path(report_path).replace_extension(".jsonl").string();
}

absl::Status WriteReport(const std::string& path, const nlohmann::ordered_json& report) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (!folder.empty()) LACUNA_RETURN_IF_ERROR(MakeDirectories(folder, ExitCode::kData));
  // What a model generates may end inside a character.
  const std::string text =
      report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return WriteFileDurably(path, text + "\n", ExitCode::kData);
}

nlohmann::ordered_json ReportHeader(const std::string& name, const LoadedModel& loaded,
                                    const std::string& run_dir,
                                    const std::vector<std::string>& overrides) {
  const Device device = loaded.model.model->device();
  return {{"evaluation", name},
          {"run", run_dir},
          {"checkpoint", loaded.path},
          {"step", loaded.state.step},
          {"set", overrides},
          {"device", device == kCpu ? "cpu" : InfoOfCudaDevice(device).name}};
}

std::string Percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : "-";
}

Interval WilsonInterval(int64_t hits, int64_t trials) {
  if (trials == 0) return {};
  constexpr double kZ = 1.959963984540054;  // 97.5 % quantile of the normal distribution
  const double n = static_cast<double>(trials), p = static_cast<double>(hits) / n;
  const double scale = 1 / (1 + kZ * kZ / n), middle = (p + kZ * kZ / (2 * n)) * scale;
  const double half = kZ * scale * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace lacuna
