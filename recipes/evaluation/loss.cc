#include "recipes/evaluation/loss.h"

#include <algorithm>
#include <bit>
#include <numbers>

#include "core/status.h"
#include "core/stream.h"
#include "recipes/evaluation/document_windows.h"

namespace lacuna {
namespace {

// What goes through the model at once.
struct ScoredRows {
  std::vector<int32_t> ids, targets;  // -1: not scored
  std::vector<int64_t> positions;     // of the targets
  std::vector<int32_t> cu_seqlens{0};
};

class Sums {
 public:
  explicit Sums(std::span<const uint16_t> token_bytes) : token_bytes_(token_bytes) {}

  void Add(int64_t position, int32_t target, double loss) {
    const auto bucket = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(position)) - 1);
    if (buckets_.size() <= bucket) buckets_.resize(bucket + 1);
    for (LossBucket* sum : {&buckets_[bucket], &total_}) {
      sum->tokens += 1;
      sum->bytes += token_bytes_[static_cast<size_t>(target)];
      sum->loss_sum += loss;
    }
  }

  SetLoss Finish(const std::string& name, int64_t samples) {
    SetLoss loss{.name = name, .samples = samples, .total = total_, .buckets = {}};
    for (size_t i = 0; i < buckets_.size(); ++i) {
      buckets_[i].begin = int64_t{1} << i;
      buckets_[i].end = int64_t{2} << i;
      if (buckets_[i].tokens > 0) loss.buckets.push_back(buckets_[i]);
    }
    if (loss.buckets.empty()) return loss;
    loss.total.begin = loss.buckets.front().begin;
    loss.total.end = loss.buckets.back().end;
    return loss;
  }

 private:
  std::span<const uint16_t> token_bytes_;
  std::vector<LossBucket> buckets_;  // i: positions [2^i, 2^(i + 1))
  LossBucket total_;
};

void Score(LanguageModel& model, const ScoredRows& rows, Sums* sums) {
  const auto n = static_cast<int64_t>(rows.ids.size());
  const Device device = model.device();
  const PackedSequences sequences = PackedSequences(rows.cu_seqlens).To(device);
  Tape tape(Tape::Mode::kInference, ComputeStream(device));
  ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = n};
  const std::vector<double> losses =
      model
          .Loss(ctx, Tensor::FromVector(rows.ids, {n}).To(device),
                Tensor::FromVector(rows.targets, {n}).To(device), 1.0)
          .row_loss.ToDoubles();
  for (size_t i = 0; i < losses.size(); ++i) {
    if (rows.targets[i] >= 0) sums->Add(rows.positions[i], rows.targets[i], losses[i]);
  }
}

absl::Status ScorePacked(LanguageModel& model, const ValidationSet& set, int64_t samples,
                         const std::function<void(int64_t)>& progress, Sums* sums) {
  for (int64_t i = 0; i < samples; ++i) {
    LACUNA_ASSIGN_OR_RETURN(const Batch batch, set.Load({i}));
    const int64_t n = batch.ids.numel();
    ScoredRows rows;
    rows.ids.assign(batch.ids.data<int32_t>(), batch.ids.data<int32_t>() + n);
    rows.targets.assign(batch.targets.data<int32_t>(), batch.targets.data<int32_t>() + n);
    for (int64_t r = 0; r < n; ++r)
      rows.positions.push_back(batch.sequences.positions().data<int32_t>()[r] + 1);
    rows.cu_seqlens = batch.sequences.host_cu_seqlens();
    Score(model, rows, sums);
    if (progress) progress(i + 1);
  }
  return absl::OkStatus();
}

void AddWindow(const TokenCorpus& corpus, const Window& window, ScoredRows* rows) {
  const TokenCorpus::Place place = corpus.Find(window.document);
  const auto mask = place.shard->loss_mask();
  std::vector<int32_t> tokens(static_cast<size_t>(window.end - window.begin));
  place.shard->Read(place.begin + window.begin, window.end - window.begin, tokens.data());
  // Token i stands behind the row that predicts it; nothing comes behind the last token.
  for (int64_t i = window.begin + 1; i < window.end; ++i) {
    const bool scored = i >= window.first_target &&
                        (mask.empty() || mask[static_cast<size_t>(place.begin + i)] != 0);
    rows->ids.push_back(tokens[static_cast<size_t>(i - 1 - window.begin)]);
    rows->targets.push_back(scored ? tokens[static_cast<size_t>(i - window.begin)] : -1);
    rows->positions.push_back(i - window.piece);
  }
  rows->cu_seqlens.push_back(static_cast<int32_t>(rows->ids.size()));
}

// Several windows go through the model together where they are short: as documents that do not see
// each other.
int64_t ScoreWindows(LanguageModel& model, const TokenCorpus& corpus, const LossOptions& options,
                     const std::function<void(int64_t)>& progress, Sums* sums) {
  const auto most_rows = static_cast<size_t>(std::max<int64_t>(options.length, 2048));
  int64_t pieces = 0, done = 0;
  const std::vector<Window> windows = MakeWindows(corpus, options.length, options.context,
                                                  options.first_target(), options.samples, &pieces);
  ScoredRows rows;
  for (size_t i = 0; i < windows.size(); ++i) {
    AddWindow(corpus, windows[i], &rows);
    done += i == 0 || windows[i].document != windows[i - 1].document ||
            windows[i].piece != windows[i - 1].piece;
    const auto next =
        static_cast<size_t>(i + 1 < windows.size() ? windows[i + 1].end - windows[i + 1].begin : 0);
    if (next > 0 && rows.ids.size() + next <= most_rows) continue;
    Score(model, rows, sums);
    rows = {};
    if (progress) progress(done);
  }
  return pieces;
}

}  // namespace

absl::Status LossOptions::Validate() const {
  if (length < 2) return ConfigError("--length {}: must be at least 2", length);
  if (samples < 0) return ConfigError("--samples {}: must be at least 0", samples);
  if (context < 0 || context % 2 != 0)
    return ConfigError("--context {}: must be even and at least 2", context);
  if (context > length)
    return ConfigError("--context {}: must be at most the length, {}", context, length);
  if (first_target() < context / 2)
    return ConfigError("--targets-from {}: must be at least half the context, {}", first_target(),
                       context / 2);
  if (first_target() >= length)
    return ConfigError("--targets-from {}: must be below the length, {}", first_target(), length);
  return absl::OkStatus();
}

double LossBucket::bits_per_byte() const {
  return loss_sum / std::numbers::ln2 / static_cast<double>(bytes);
}

absl::StatusOr<SetLoss> EvaluateLoss(LanguageModel& model, const ValidationSet& set,
                                     const LossOptions& options,
                                     const std::function<void(int64_t)>& progress) {
  LACUNA_RETURN_IF_ERROR(options.Validate());
  Sums sums(set.corpus().shards().front().token_bytes());
  int64_t samples =
      options.samples > 0 ? std::min(options.samples, set.num_samples()) : set.num_samples();
  if (options.by_document()) {
    samples = ScoreWindows(model, set.corpus(), options, progress, &sums);
  } else {
    LACUNA_RETURN_IF_ERROR(ScorePacked(model, set, samples, progress, &sums));
  }
  SetLoss loss = sums.Finish(set.name(), samples);
  if (loss.total.tokens > 0) return loss;
  return DataError(
      "{}: no document has a token at position {} or later; --targets-from must be "
      "smaller",
      set.name(), options.first_target());
}

}  // namespace lacuna
