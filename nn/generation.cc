#include "nn/generation.h"

#include <algorithm>
#include <utility>

#include "core/parallel.h"
#include "core/stream.h"

namespace lacuna {
namespace {

// A sequence in work.
struct Running {
  size_t number;
  std::vector<int32_t> piece;  // tokens that the cache has not seen
  SequenceCache cache;
};

// Appends each piece to its cache -> logits [running, V] on the host.
Tensor Extend(LanguageModel& model, std::vector<Running>& running) {
  std::vector<int32_t> ids, cu{0};
  std::vector<SequenceCache*> caches;
  for (Running& sequence : running) {
    ids.insert(ids.end(), sequence.piece.begin(), sequence.piece.end());
    cu.push_back(static_cast<int32_t>(ids.size()));
    caches.push_back(&sequence.cache);
  }
  const Device device = model.device();
  return model
      .Extend(Tensor::FromVector(ids, {static_cast<int64_t>(ids.size())}).To(device),
              PackedSequences(cu).To(device), caches, ComputeStream(device))
      .To(kCpu);
}

// The next token of every running sequence.
std::vector<int32_t> Sample(const Tensor& logits, const std::vector<Running>& running,
                            const GenerationOptions& options, int64_t limit) {
  std::vector<int32_t> tokens(running.size());
  ParallelFor(logits.dim(0), 20 * logits.dim(1), [&](int64_t r) {
    const Running& sequence = running[static_cast<size_t>(r)];
    tokens[static_cast<size_t>(r)] =
        SampleToken(logits.Slice(r, r + 1).Reshape({logits.dim(1)}), options.sampling,
                    sequence.number, static_cast<uint64_t>(sequence.cache.length()), limit);
  });
  return tokens;
}

}  // namespace

std::vector<std::vector<int32_t>> Generate(LanguageModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerationOptions& options,
                                           const std::function<void(int64_t, int32_t)>& on_token) {
  const int64_t limit =
      options.vocabulary_limit > 0 ? options.vocabulary_limit : model.vocabulary();
  const size_t batch = options.batch > 0 ? static_cast<size_t>(options.batch) : prompts.size();
  for (size_t i = 0; i < prompts.size(); ++i)
    LACUNA_CHECK(!prompts[i].empty(), "prompt {} has no tokens", i);
  std::vector<std::vector<int32_t>> generated(prompts.size());
  if (options.max_tokens <= 0) return generated;
  const auto ends = [&](size_t sequence) {
    const std::vector<int32_t>& tokens = generated[sequence];
    return static_cast<int64_t>(tokens.size()) == options.max_tokens ||
           std::find(options.stop_ids.begin(), options.stop_ids.end(), tokens.back()) !=
               options.stop_ids.end();
  };
  std::vector<Running> running;
  for (size_t next = 0;;) {
    for (; running.size() < batch && next < prompts.size(); ++next)
      running.push_back({next, prompts[next], model.NewCache()});
    if (running.empty()) return generated;
    const std::vector<int32_t> tokens = Sample(Extend(model, running), running, options, limit);
    for (size_t r = 0; r < running.size(); ++r) {
      const size_t sequence = running[r].number;
      generated[sequence].push_back(tokens[r]);
      if (on_token) on_token(static_cast<int64_t>(sequence), tokens[r]);
      running[r].piece = {tokens[r]};
    }
    std::erase_if(running, [&](const Running& sequence) { return ends(sequence.number); });
  }
}

}  // namespace lacuna
