#include "recipes/benchmark/torch_twin.h"

#include <nlohmann/json.hpp>

#include "core/status.h"
#include "recipes/benchmark/python_script.h"

namespace lacuna {
namespace {

nlohmann::json ConfigOf(const BenchSizes& sizes, const BenchReport& report) {
  const ModelConfig& m = sizes.model;
  nlohmann::json rows = nlohmann::json::array();
  for (const RowResult& r : report.rows) rows.push_back({r.row.op, r.row.tokens});
  return {{"device", "cuda"},
          {"width", m.width},
          {"vocab_size", m.vocab_size},
          {"num_heads", m.num_heads},
          {"num_groups", m.num_groups},
          {"head_dim_qk", m.head_dim_qk},
          {"head_dim_v", m.head_dim_v},
          {"rotary_dims", m.rotary_dims},
          {"rope_theta", m.rope_theta},
          {"dense_width", m.dense_width},
          {"init_std", m.init_std},
          {"num_experts", sizes.moe.num_experts},
          {"experts_per_token", sizes.moe.experts_per_token},
          {"expert_width", sizes.moe.expert_width},
          {"num_shared", sizes.moe.num_shared},
          {"window", sizes.nsa.window},
          {"block", sizes.nsa.block},
          {"stride", sizes.nsa.stride},
          {"parameters", sizes.parameters},
          {"routing", NameOf(sizes.routing)},
          {"rows", rows}};
}

}  // namespace

absl::StatusOr<std::string> FindTorch(const std::string& python, const std::string& script) {
  LACUNA_ASSIGN_OR_RETURN(
      const std::vector<std::string> lines,
      RunPythonScript(python, script, {{"device", "cuda"}, {"rows", nlohmann::json::array()}}));
  const std::vector<nlohmann::json> answers = ObjectsWith("torch", lines);
  if (answers.empty()) return PythonError(python, script, lines);
  return answers.front()["torch"].get<std::string>();
}

absl::Status RunTorchTwin(const std::string& python, const std::string& script,
                          const BenchSizes& sizes, BenchReport* report) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> lines,
                          RunPythonScript(python, script, ConfigOf(sizes, *report)));
  for (const nlohmann::json& row : ObjectsWith("op", lines)) {
    TorchResult result;
    if (row.contains("ms")) result.milliseconds = row["ms"].get<double>();
    if (row.contains("held_bytes")) result.held_bytes = row["held_bytes"].get<int64_t>();
    result.left_out = row.value("left_out", "");
    if (row.contains("triton_ms")) result.triton_milliseconds = row["triton_ms"].get<double>();
    result.triton_left_out = row.value("triton_left_out", "");
    report->torch_rows[{row["op"].get<std::string>(), row.value("tokens", int64_t{0})}] = result;
  }
  if (report->torch_rows.empty()) return PythonError(python, script, lines);
  return absl::OkStatus();
}

}  // namespace lacuna
