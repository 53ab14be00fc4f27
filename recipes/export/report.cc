#include "recipes/export/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lacuna {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kProbedTokens = 16;
constexpr int64_t kProbedIds = 4096;

ordered_json ToJson(const LogitAgreement& agreement) {
  return {{"max_abs_difference", agreement.max_difference},
          {"max_abs_logit", agreement.largest},
          {"kl_mean", agreement.kl_mean},
          {"kl_max", agreement.kl_max},
          {"top1_agreement", agreement.top1}};
}

// Layers without such decisions are null, so that the index is the layer's number.
ordered_json Shares(const std::vector<ReferenceTrace::Layer>& layers,
                    DecisionAgreement ReferenceTrace::Layer::*kind) {
  ordered_json shares = ordered_json::array();
  for (const auto& layer : layers) {
    const DecisionAgreement& agreement = layer.*kind;
    shares.push_back(agreement.compared == 0 ? ordered_json() : ordered_json(agreement.share()));
  }
  return shares;
}

int64_t Ties(const std::vector<ReferenceTrace::Layer>& layers) {
  int64_t ties = 0;
  for (const auto& layer : layers) ties += layer.blocks.ties + layer.experts.ties;
  return ties;
}

// Where the elements come from: "layers.1.mlp.experts.gate_up_proj.weight[6144:12288]".
std::string SourceText(const ExportTensor& exported) {
  std::string text = fmt::format("{}[{}:{}]", exported.source, exported.offset,
                                 exported.offset + exported.source_elements());
  if (exported.block != exported.source_block)
    text += fmt::format(", {} zeros after every {}", exported.block - exported.source_block,
                        exported.source_block);
  return text;
}

// `json` with one entry of its list "tensors" a line.
std::string WithTensors(const ordered_json& json, const ExportFacts& facts) {
  std::string text = json.dump(2);
  text.erase(text.rfind("\n}"));
  text += ",\n  \"tensors\": [";
  const char* separator = "\n";
  for (const ExportTensor& exported : facts.map) {
    const ordered_json line = {
        {"name", exported.name},
        {"dtype", NameOf(exported.wide ? DType::kF32 : facts.dtype)},
        {"shape", std::vector<int64_t>(exported.shape.begin(), exported.shape.end())},
        {"from", SourceText(exported)}};
    text += separator + ("    " + line.dump());
    separator = ",\n";
  }
  return text + "\n  ]\n}\n";
}

std::vector<int64_t> Spread(int64_t n, int64_t most) {
  std::vector<int64_t> picked;
  const int64_t count = std::min(n, most);
  for (int64_t i = 0; i < count; ++i) picked.push_back((i + 1) * n / count - 1);
  return picked;
}

// The blocks that queries selected, from the first query that left one out:
// {"first": token, "blocks": [layers][tokens][G][n]}; null where none did.
ordered_json SelectedBlocks(const std::vector<LayerDecisions>& layers, int64_t tokens,
                            const NsaConfig& nsa) {
  const int64_t first = nsa.num_selected * nsa.select_block;
  if (layers.empty() || layers[0].blocks.empty() || first >= tokens) return nullptr;
  ordered_json lists = ordered_json::array();
  for (const LayerDecisions& layer : layers) {
    const size_t rows = layer.blocks.size() / static_cast<size_t>(nsa.num_selected),
                 groups = rows / static_cast<size_t>(tokens);
    ordered_json of_layer = ordered_json::array();
    for (auto t = static_cast<size_t>(first); t < static_cast<size_t>(tokens); ++t) {
      ordered_json of_token = ordered_json::array();
      for (size_t g = 0; g < groups; ++g)
        of_token.push_back(RowOfList(layer.blocks, t * groups + g, rows));
      of_layer.push_back(of_token);
    }
    lists.push_back(of_layer);
  }
  return {{"first", first}, {"blocks", lists}};
}

}  // namespace

const char* ArchitectureName(ExportArchitecture architecture) {
  return architecture == ExportArchitecture::kGlm4Moe ? "Glm4MoeForCausalLM" : "NsaMoeForCausalLM";
}

std::string ExportReport(const ExportFacts& facts, const Probe& probe,
                         const Verification& verification, const LogitAgreement& rounding) {
  ordered_json logits = ToJson(verification.logits);
  logits["limit"] = verification.limit;
  const ordered_json report = {
      {"checkpoint", facts.checkpoint},
      {"step", facts.step},
      {"architecture", ArchitectureName(facts.architecture)},
      {"dtype", NameOf(facts.dtype)},
      {"transformers", facts.transformers},
      {"files", facts.files},
      {"tensor_count", facts.map.size()},
      {"tensor_bytes", facts.bytes},
      {"probe", {{"tokens", probe.ids.size()}, {"from", probe.origin}}},
      {"folder_against_model", logits},
      {"experts_agreement", Shares(verification.layers, &ReferenceTrace::Layer::experts)},
      {"selected_blocks_agreement", Shares(verification.layers, &ReferenceTrace::Layer::blocks)},
      {"ties", Ties(verification.layers)},
      {"greedy_agreement", verification.greedy},
      {"rounding_of_weights", ToJson(rounding)},
      {"rope",
       {{"yarn_factor", verification.yarn_factor},
        {"attention_factor", verification.attention_factor},
        {"inverse_frequencies", verification.inverse_frequencies}}}};
  return WithTensors(report, facts);
}

std::string ParityProbe(const Probe& probe, const ModelTrace& trained,
                        const Verification& verification, const NsaConfig& nsa) {
  const int64_t vocabulary = trained.logits.dim(1);
  const std::vector<int64_t> tokens = Spread(static_cast<int64_t>(probe.ids.size()), kProbedTokens);
  const std::vector<int64_t> ids = Spread(vocabulary, kProbedIds);
  ordered_json logits = ordered_json::array();
  for (const int64_t t : tokens) {
    const Doubles row = trained.logits.Slice(t, t + 1).ToDoubles();
    ordered_json values = ordered_json::array();
    for (const int64_t id : ids) values.push_back(row[static_cast<size_t>(id)]);
    logits.push_back(values);
  }
  ordered_json greedy = ordered_json::array();
  for (size_t i = 0; i < probe.prompts.size(); ++i) {
    const auto tokens =
        static_cast<int64_t>(probe.prompts[i].size() + verification.continuations[i].size());
    greedy.push_back(
        {{"prompt", probe.prompts[i]},
         {"continuation", verification.continuations[i]},
         {"selected", SelectedBlocks(verification.continuation_layers[i], tokens, nsa)}});
  }
  const ordered_json json = {
      {"token_ids", probe.ids},
      {"positions", tokens},
      {"vocabulary_ids", ids},
      {"logits", logits},
      {"selected", SelectedBlocks(trained.layers, static_cast<int64_t>(probe.ids.size()), nsa)},
      {"greedy", greedy}};
  return json.dump() + "\n";
}

}  // namespace lacuna
