#include "recipes/evaluation/selected_lists.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/stream.h"
#include "nsa/nsa_attention.h"

namespace lacuna {

std::vector<LayerLists> SelectLists(LanguageModel& model, const std::vector<int32_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size());
  const Device device = model.device();
  DecisionLog log;
  Tape tape(Tape::Mode::kInference, ComputeStream(device));
  tape.set_decision_log(&log);
  const PackedSequences sequences = PackedSequences::Single(n).To(device);
  ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = n};
  const std::vector<int32_t> no_targets(ids.size(), -1);
  model.Loss(ctx, Tensor::FromVector(ids, {n}).To(device),
             Tensor::FromVector(no_targets, {n}).To(device), 1.0);
  std::vector<LayerLists> layers;
  size_t next = 0;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    if (dynamic_cast<NsaAttention*>(&model.block(layer).attention()) == nullptr) continue;
    // Lists [T, G, n]; experts' choices are [T, K].
    const auto is_lists = [](const std::vector<Tensor>& d) { return d.at(0).rank() == 3; };
    while (next < log.decisions.size() && !is_lists(log.decisions[next])) ++next;
    LACUNA_CHECK(next < log.decisions.size(), "layer {} selected no blocks", layer);
    const Tensor blocks = log.decisions[next++][0].To(kCpu);
    const int32_t* first = blocks.data<int32_t>();
    layers.push_back({layer, {n, blocks.dim(1), blocks.dim(2), {first, first + blocks.numel()}}});
  }
  return layers;
}

std::vector<int32_t> FirstTokensOf(const TokenCorpus& corpus, int64_t tokens) {
  std::vector<int32_t> ids(static_cast<size_t>(std::min(tokens, corpus.num_tokens())));
  int64_t have = 0;
  for (const TokenShard& shard : corpus.shards()) {
    const int64_t count = std::min(shard.num_tokens(), static_cast<int64_t>(ids.size()) - have);
    if (count == 0) break;
    shard.Read(0, count, ids.data() + have);
    have += count;
  }
  return ids;
}

std::string SelectionText(const std::vector<LayerLists>& layers) {
  std::string text =
      fmt::format("{:>8}  {:>14}  {:>14}  {:>14}\n", "layer", "blocks a token",
                  fmt::format("of {} adjacent", kAdjacent), fmt::format("of {}", kFarAdjacent));
  for (const auto& [layer, lists] : layers) {
    text += fmt::format("{:>8}  {:>14.2f}  {:>14.2f}  {:>14.2f}\n", layer, BlocksOfToken(lists),
                        DistinctBlocks(lists, kAdjacent), DistinctBlocks(lists, kFarAdjacent));
  }
  return text;
}

nlohmann::ordered_json SelectionJson(const std::vector<LayerLists>& layers) {
  nlohmann::ordered_json json = {{"tokens", layers.empty() ? 0 : layers[0].lists.tokens},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const auto& [layer, lists] : layers) {
    json["layers"].push_back({{"layer", layer},
                              {"blocks_of_token", BlocksOfToken(lists)},
                              {"distinct_of_4", DistinctBlocks(lists, kAdjacent)},
                              {"distinct_of_12", DistinctBlocks(lists, kFarAdjacent)}});
  }
  return json;
}

}  // namespace lacuna
