#include "tools/inspect/batch_view.h"

#include <cstdio>
#include <utility>

#include "core/error.h"
#include "core/status.h"
#include "data/loader.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/run_inputs.h"
#include "tools/inspect/token_text.h"

namespace lacuna::tools {
namespace {

// One sample, and where all of it comes from.
struct Sample {
  int64_t number = 0;  // in the stream
  Batch batch;
  SampleOrigin origin;
  const TokenCorpus* corpus = nullptr;

  int64_t num_documents() const { return static_cast<int64_t>(origin.fragments.size()); }
  // Rows of document d of the sample.
  std::pair<int64_t, int64_t> Rows(int64_t d) const {
    const std::vector<int32_t>& cu = batch.sequences.host_cu_seqlens();
    return {cu[static_cast<size_t>(d)], cu[static_cast<size_t>(d) + 1]};
  }
};

absl::StatusOr<Sample> LoadSample(const DataLoader& loader, int64_t number) {
  Sample sample;
  sample.number = number;
  LACUNA_ASSIGN_OR_RETURN(sample.batch, loader.Load({number}));
  sample.origin = loader.Origin(number);
  sample.corpus = &loader.corpus(sample.origin.source);
  return sample;
}

// The optimizer step and the place in it, as the trainer deals samples: (micro-batch, rank) in
// order.
std::string PlaceInRun(const TrainConfig& train, int64_t ranks, int64_t number) {
  const int64_t step = train.StepOfSample(number), in_step = number - train.SamplesIn(step);
  const int64_t share = in_step / train.micro_batch;
  const std::string place = fmt::format("step {} of {}, micro-batch {} of rank {}", step + 1,
                                        train.steps, share / ranks, share % ranks);
  return step < train.steps ? place : place + " (the run ends before it)";
}

std::string SampleHeader(const Recipe& recipe, const DataLoader& loader, int64_t ranks,
                         const Sample& sample) {
  const int64_t rows = sample.batch.ids.numel(),
                padding = rows -
                          sample.batch.tokens_per_source[static_cast<size_t>(sample.origin.source)];
  return fmt::format(
      "\n=== sample {}: source {}, epoch {} (sample {} of its {}), {} document{}, {} padding rows, "
      "{} target tokens of {} rows\n    in {}\n",
      sample.number, loader.source_names()[static_cast<size_t>(sample.origin.source)],
      sample.origin.epoch, sample.origin.number, sample.origin.samples_per_epoch,
      sample.num_documents(), sample.num_documents() == 1 ? "" : "s", padding,
      sample.batch.num_target_tokens, rows, PlaceInRun(recipe.train, ranks, sample.number));
}

// A row's token is predicted by the row before, where that is of the same document.
DocumentTokens TokensOf(const Sample& sample, int64_t d) {
  const auto [begin, end] = sample.Rows(d);
  const int32_t *ids = sample.batch.ids.data<int32_t>(),
                *targets = sample.batch.targets.data<int32_t>();
  DocumentTokens document;
  for (int64_t row = begin; row < end; ++row) {
    document.ids.push_back(ids[row]);
    document.predicted.push_back(row > begin && targets[row - 1] >= 0);
  }
  return document;
}

std::string DocumentHeader(const Sample& sample, int64_t d, const DocumentTokens& document) {
  const Fragment& fragment = sample.origin.fragments[static_cast<size_t>(d)];
  const TokenCorpus::Place place = sample.corpus->Find(fragment.document);
  const int64_t fragment_end = fragment.begin + fragment.length;
  const bool cut_before = fragment.begin > 0, cut_behind = fragment_end < place.length;
  const auto [begin, end] = sample.Rows(d);
  std::string line = fmt::format("--- rows [{}, {}): document {} of {}, ", begin, end, place.number,
                                 place.shard->path());
  if (!cut_before && !cut_behind) {
    line += fmt::format("whole, {} tokens", place.length);
  } else {
    line += fmt::format("tokens [{}, {}) of {}, cut {}", fragment.begin, fragment_end, place.length,
                        cut_before && cut_behind ? "at both ends"
                        : cut_before             ? "at its beginning"
                                                 : "at its end");
  }
  if (document.num_masked() > 0) line += fmt::format("; {} masked", document.num_masked());
  return line + '\n';
}

// On one line.
std::string QuotedToken(int32_t id, const TextStyle& style) {
  std::string text;
  for (const char c : VisibleText(style.tokenizer->Decode({&id, 1}), style.colour))
    text += c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
  return '"' + text + '"';
}

// Behind a document that is cut at its end: its last row predicts a token of another sample.
std::string BehindTheCut(const Sample& sample, int64_t d, const TextStyle& style) {
  const Fragment& fragment = sample.origin.fragments[static_cast<size_t>(d)];
  const TokenCorpus::Place place = sample.corpus->Find(fragment.document);
  if (fragment.begin + fragment.length == place.length) return "";
  const int64_t row = sample.Rows(d).second - 1;
  const int32_t target = sample.batch.targets.data<int32_t>()[row];
  if (target < 0) return fmt::format("... cut; the token behind row {} is masked\n", row);
  return fmt::format("... cut; row {} predicts {} behind it\n", row, QuotedToken(target, style));
}

void PrintSample(const Sample& sample, const Tokenizer& tokenizer, const InspectOptions& options) {
  const int64_t sequences = sample.batch.sequences.num_documents();
  LACUNA_CHECK(sequences - sample.num_documents() <= 1, "{} documents in {} sequences",
               sample.num_documents(), sequences);
  for (int64_t d = 0; d < sample.num_documents(); ++d) {
    const DocumentTokens document = TokensOf(sample, d);
    const TextStyle style = {.tokenizer = &tokenizer, .colour = options.colour, .number = d};
    std::fputs((DocumentHeader(sample, d, document) +
                DocumentText(document, options.tokens, style) + BehindTheCut(sample, d, style))
                   .c_str(),
               stdout);
  }
  if (sequences > sample.num_documents()) {
    const auto [begin, end] = sample.Rows(sample.num_documents());
    std::fputs(fmt::format("--- rows [{}, {}): padding\n", begin, end).c_str(), stdout);
  }
}

}  // namespace

bool BatchView::Recognises(const std::string& path, std::string_view /*head*/) const {
  return path.ends_with(".yaml") || path.ends_with(".yml");
}

void BatchView::AddOptions(CLI::App& command) {
  command.add_option("--sample", sample_, "First sample of the stream to show")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 48).description("NONNEGATIVE"))
      ->capture_default_str();
  command.add_option("--samples", samples_, "Samples to show")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--set", overrides_, "Override a key: section.key=value (may be repeated)")
      ->allow_extra_args(false);
  command.add_option("--ranks", ranks_, "Ranks of the run: which of them has the sample")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
}

absl::Status BatchView::Show(const InspectOptions& options) const {
  if (!options.tokenizer.empty()) {
    return ConfigError(
        "inspect: --tokenizer: {} names its own; --set data.tokenizer={} to change it",
        options.path, options.tokenizer);
  }
  LACUNA_ASSIGN_OR_RETURN(const Recipe recipe, LoadRecipe(options.path, overrides_, ranks_));
  LACUNA_ASSIGN_OR_RETURN(const RunInputs inputs, OpenRunInputs(recipe, /*may_write_cache=*/false));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(recipe.data.tokenizer));
  const DataLoader& loader = *inputs.loader;
  std::fputs(fmt::format("{}: stage {}, seed {}, samples of {} rows, verified\n", options.path,
                         recipe.run.stage, recipe.run.seed, recipe.train.sequence_length)
                 .c_str(),
             stdout);
  for (int64_t i = 0; i < samples_; ++i) {
    LACUNA_ASSIGN_OR_RETURN(const Sample sample, LoadSample(loader, sample_ + i));
    std::fputs(SampleHeader(recipe, loader, ranks_, sample).c_str(), stdout);
    PrintSample(sample, tokenizer, options);
  }
  return absl::OkStatus();
}

}  // namespace lacuna::tools
