// The blocks that a model's queries select in a text, all positions at once: what neighbours have in
// common, and lists for `lacuna bench cuda --pattern`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/token_corpus.h"
#include "nn/language_model.h"
#include "recipes/benchmark/block_lists.h"

namespace lacuna {

struct LayerLists {
  int64_t layer = 0;
  BlockLists lists;
};

// Of the layers with sparse attention, in order; `ids` are one document.
std::vector<LayerLists> SelectLists(LanguageModel& model, const std::vector<int32_t>& ids);

// The first `tokens` tokens of a corpus, or all where it has fewer.
std::vector<int32_t> FirstTokensOf(const TokenCorpus& corpus, int64_t tokens);

// A line for each layer.
std::string SelectionText(const std::vector<LayerLists>& layers);
nlohmann::ordered_json SelectionJson(const std::vector<LayerLists>& layers);

}  // namespace lacuna
