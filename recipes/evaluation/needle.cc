#include "recipes/evaluation/needle.h"

#include <algorithm>

#include "core/status.h"
#include "core/stream.h"
#include "nn/sampling.h"
#include "recipes/evaluation/selection.h"

namespace lacuna {
namespace {

// Appends tokens [begin, end) of ids -> the most likely next token.
int32_t Extend(LanguageModel& model, const std::vector<int32_t>& ids, int64_t begin, int64_t end,
               int64_t vocabulary, SequenceCache* cache) {
  const std::vector<int32_t> piece(ids.begin() + begin, ids.begin() + end);
  const Device device = model.device();
  const Tensor logits = model.Extend(Tensor::FromVector(piece, {end - begin}).To(device),
                                     PackedSequences::Single(end - begin).To(device), {cache},
                                     ComputeStream(device));
  return SampleToken(logits.Reshape({model.vocabulary()}), {.temperature = 0}, 0, 0, vocabulary);
}

// The lists of `recorder` are those of the query that predicts the answer's first token when this
// returns: the question's last token is a decode step, and what follows it goes by unrecorded.
struct Answer {
  std::string text;
  std::vector<std::vector<std::vector<int32_t>>> lists;
};

Answer Ask(LanguageModel& model, const Tokenizer& tokenizer, const NeedleTrial& trial) {
  std::vector<int32_t> ids = trial.ids;
  const auto asked = static_cast<int64_t>(ids.size());
  const SelectionRecorder recorder(model);
  SequenceCache cache = model.NewCache();
  Extend(model, ids, 0, asked - 1, tokenizer.vocab_size(), &cache);
  ids.push_back(Extend(model, ids, asked - 1, asked, tokenizer.vocab_size(), &cache));
  Answer answer{.text = "", .lists = recorder.lists()};
  // One token more than the number has, to see whether more digits follow.
  while (static_cast<int64_t>(ids.size()) <= asked + trial.answer_tokens) {
    const auto n = static_cast<int64_t>(ids.size());
    ids.push_back(Extend(model, ids, n - 1, n, tokenizer.vocab_size(), &cache));
  }
  answer.text = tokenizer.Decode(absl::MakeConstSpan(ids).subspan(static_cast<size_t>(asked)));
  return answer;
}

bool IsRight(const std::string& text, const std::string& digits) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || text.compare(begin, digits.size(), digits) != 0) return false;
  const size_t end = begin + digits.size();
  return end == text.size() || text[end] < '0' || text[end] > '9';
}

bool HoldsAll(const std::vector<int32_t>& list, int64_t first_block, int64_t last_block) {
  for (int64_t block = first_block; block <= last_block; ++block) {
    if (std::find(list.begin(), list.end(), block) == list.end()) return false;
  }
  return true;
}

void Count(const NeedleTrial& trial, const Answer& answer, int64_t select_block, NeedleCell* cell) {
  cell->trials += 1;
  cell->correct += IsRight(answer.text, trial.digits);
  cell->selected.resize(answer.lists.size());
  for (size_t layer = 0; layer < answer.lists.size(); ++layer) {
    cell->selected[layer].resize(answer.lists[layer].size());
    for (size_t group = 0; group < answer.lists[layer].size(); ++group) {
      cell->selected[layer][group] +=
          HoldsAll(answer.lists[layer][group], trial.digits_begin / select_block,
                   (trial.digits_end - 1) / select_block);
    }
  }
}

}  // namespace

absl::Status NeedleOptions::Validate() const {
  if (lengths.empty()) return ConfigError("--lengths: give at least one length");
  if (depths.empty()) return ConfigError("--depths: give at least one depth");
  if (trials < 1) return ConfigError("--trials {}: must be at least 1", trials);
  for (const int64_t depth : depths) {
    if (depth < 0 || depth > 100) return ConfigError("--depths {}: must be 0 to 100", depth);
  }
  for (const int64_t length : lengths) {
    if (length < 1) return ConfigError("--lengths {}: must be at least 1", length);
  }
  return absl::OkStatus();
}

absl::StatusOr<NeedleResult> EvaluateNeedle(LanguageModel& model, const Tokenizer& tokenizer,
                                            const Haystack& haystack, int64_t select_block,
                                            int64_t num_selected, const NeedleOptions& options,
                                            const std::function<void(int64_t)>& progress) {
  LACUNA_RETURN_IF_ERROR(options.Validate());
  NeedleResult result{.cells = {},
                      .layers = SelectionRecorder(model).layers(),
                      .select_block = select_block,
                      .num_selected = num_selected};
  int64_t done = 0;
  for (const int64_t length : options.lengths) {
    for (const int64_t depth : options.depths) {
      NeedleCell cell{.length = length, .depth = depth, .selected = {}};
      for (int64_t t = 0; t < options.trials; ++t) {
        LACUNA_ASSIGN_OR_RETURN(const NeedleTrial trial, haystack.Make(length, depth, options.seed,
                                                                       static_cast<uint64_t>(t)));
        Count(trial, Ask(model, tokenizer, trial), select_block, &cell);
        if (progress) progress(++done);
      }
      result.cells.push_back(std::move(cell));
    }
  }
  return result;
}

}  // namespace lacuna
