#include "nn/generation.h"

#include <algorithm>

namespace lacuna {
namespace {

// Appends `pieces` (one for each of `active`) to the caches -> logits [active, V].
Tensor Extend(LanguageModel& model, const std::vector<std::vector<int32_t>>& pieces,
              const std::vector<SequenceCache*>& caches, Stream stream) {
  std::vector<int32_t> ids, cu{0};
  for (const auto& piece : pieces) {
    ids.insert(ids.end(), piece.begin(), piece.end());
    cu.push_back(static_cast<int32_t>(ids.size()));
  }
  return model.Extend(Tensor::FromVector(ids, {static_cast<int64_t>(ids.size())}),
                      PackedSequences(cu), caches, stream);
}

}  // namespace

std::vector<std::vector<int32_t>> Generate(LanguageModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerationOptions& options,
                                           const std::function<void(int64_t, int32_t)>& on_token,
                                           Stream stream) {
  const int64_t limit =
      options.vocabulary_limit > 0 ? options.vocabulary_limit : model.vocabulary();
  std::vector<SequenceCache> caches;
  std::vector<std::vector<int32_t>> generated(prompts.size()), pieces = prompts;
  std::vector<size_t> active;
  for (size_t i = 0; i < prompts.size(); ++i) {
    LACUNA_CHECK(!prompts[i].empty(), "prompt {} has no tokens", i);
    caches.push_back(model.NewCache());
    active.push_back(i);
  }
  for (int64_t step = 0; step < options.max_tokens && !active.empty(); ++step) {
    std::vector<SequenceCache*> cache_of;
    for (const size_t i : active) cache_of.push_back(&caches[i]);
    const Tensor logits = Extend(model, pieces, cache_of, stream);
    std::vector<size_t> still_active;
    pieces.clear();
    for (size_t row = 0; row < active.size(); ++row) {
      const size_t i = active[row];
      const auto r = static_cast<int64_t>(row);
      const int32_t token =
          SampleToken(logits.Slice(r, r + 1).Reshape({model.vocabulary()}), options.sampling, i,
                      prompts[i].size() + static_cast<size_t>(step), limit);
      generated[i].push_back(token);
      if (on_token) on_token(static_cast<int64_t>(i), token);
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) !=
          options.stop_ids.end())
        continue;
      still_active.push_back(i);
      pieces.push_back({token});
    }
    active = std::move(still_active);
  }
  return generated;
}

}  // namespace lacuna
