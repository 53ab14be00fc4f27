#include "data/prepare/prepare.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <span>
#include <utility>

#include "core/io/file.h"
#include "core/parallel.h"
#include "data/prepare/document_ids.h"
#include "data/prepare/shard_set.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {
namespace {

// A batch is read, then tokenized by all threads, then written in order.
constexpr size_t kBatchDocuments = 4096;
constexpr size_t kBatchBytes = size_t{32} << 20;

struct Tokenized {
  absl::Status status;
  std::vector<int32_t> tokens;  // none where the text is empty
  int64_t text_bytes = 0;
  size_t split = 0;
  bool had_byte_order_mark = false, had_crlf = false, repaired = false;
  bool was_ids = false, end_added = false, inner_end = false;
};

bool IsBelow(const std::string& name, const std::string& prefix) {
  if (!name.starts_with(prefix)) return false;
  return name.size() == prefix.size() || prefix.ends_with("/") || name[prefix.size()] == '/';
}

// 0: training; else 1 + the hold-out.
size_t SplitOf(const InputFile& file, const std::string& text,
               const std::vector<Holdout>& holdouts) {
  for (size_t h = 0; h < holdouts.size(); ++h) {
    if (!holdouts[h].prefix.empty() && IsBelow(file.name, holdouts[h].prefix)) return h + 1;
  }
  const double place = static_cast<double>(XXH3_64bits(text.data(), text.size()) >> 11) * 0x1.0p-53;
  double end = 0;
  for (size_t h = 0; h < holdouts.size(); ++h) {
    end += holdouts[h].fraction;
    if (place < end) return h + 1;
  }
  return 0;
}

Tokenized TakeIds(const RawDocument& document, const Tokenizer& tokenizer,
                  std::span<const uint16_t> token_bytes, const PrepareOptions& options) {
  Tokenized result;
  absl::StatusOr<DocumentIds> ids = ReadDocumentIds(document, tokenizer, token_bytes);
  result.status = ids.status();
  if (!ids.ok()) return result;
  result.was_ids = true;
  result.end_added = ids->end_added;
  result.inner_end = ids->inner_end;
  result.text_bytes = ids->text_bytes;
  result.split = SplitOf(*document.file, ids->text, options.holdouts);
  result.tokens = std::move(ids->tokens);
  return result;
}

Tokenized Tokenize(RawDocument document, const Tokenizer& tokenizer,
                   std::span<const uint16_t> token_bytes, const PrepareOptions& options) {
  if (document.megatron) return TakeIds(document, tokenizer, token_bytes, options);
  Tokenized result;
  const InputFile& file = *document.file;
  const std::string where = document.Where();
  result.had_byte_order_mark = document.had_byte_order_mark;
  absl::StatusOr<DocumentText> text = ExtractText(std::move(document), options.text);
  result.status = text.status();
  if (!text.ok() || text->text.empty()) return result;
  result.had_crlf = text->had_crlf;
  result.repaired = text->repaired;
  result.text_bytes = static_cast<int64_t>(text->text.size());
  result.split = SplitOf(file, text->text, options.holdouts);
  result.status = tokenizer.Encode(text->text, &result.tokens);
  if (!result.status.ok()) result.status = DataError("{}: {}", where, Message(result.status));
  result.tokens.push_back(tokenizer.eod_id());
  return result;
}

std::vector<uint16_t> TokenBytes(const Tokenizer& tokenizer) {
  std::vector<uint16_t> bytes(static_cast<size_t>(tokenizer.vocab_size()), 0);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsSpecial(id)) continue;
    const size_t length = tokenizer.Decode({&id, 1}).size();
    bytes[static_cast<size_t>(id)] = static_cast<uint16_t>(std::min<size_t>(length, UINT16_MAX));
  }
  return bytes;
}

absl::Status CheckOptions(const PrepareOptions& options, const InputFiles& inputs) {
  if (options.inputs.empty()) return ConfigError("prepare: give at least one file or folder");
  if (options.shard_tokens < 1)
    return ConfigError("prepare: shard_tokens = {}, must be at least 1", options.shard_tokens);
  std::vector<std::string> names = {options.name};
  double sum = 0;
  for (const Holdout& holdout : options.holdouts) {
    names.push_back(holdout.name);
    sum += holdout.fraction;
    const auto is_below = [&](const InputFile& file) { return IsBelow(file.name, holdout.prefix); };
    if (!holdout.prefix.empty() &&
        std::none_of(inputs.files.begin(), inputs.files.end(), is_below)) {
      return ConfigError("prepare: hold-out {}: no input file lies below {}, e.g. there is {}",
                         holdout.name, holdout.prefix, inputs.files.front().name);
    }
  }
  if (sum >= 1)
    return ConfigError("prepare: hold-outs take {} of all documents, must be below 1", sum);
  for (auto name = names.begin(); name != names.end(); ++name) {
    if (name->empty() || name->find('/') != std::string::npos)
      return ConfigError("prepare: \"{}\" is no name for a split", *name);
    if (std::find(names.begin(), name, *name) != name)
      return ConfigError("prepare: two splits are named {}", *name);
  }
  return absl::OkStatus();
}

absl::Status Write(Tokenized document, std::deque<ShardSet>& splits, PrepareReport& report) {
  LACUNA_RETURN_IF_ERROR(document.status);
  report.byte_order_marks += document.had_byte_order_mark;
  report.crlf_documents += document.had_crlf;
  report.repaired_documents += document.repaired;
  report.id_documents += document.was_ids;
  report.ends_added += document.end_added;
  report.inner_end_documents += document.inner_end;
  if (document.tokens.empty()) {
    ++report.empty_documents;
    return absl::OkStatus();
  }
  return splits[document.split].Add(document.tokens, document.text_bytes);
}

absl::Status WriteAll(const InputFiles& inputs, const Tokenizer& tokenizer,
                      std::span<const uint16_t> token_bytes, const PrepareOptions& options,
                      std::deque<ShardSet>& splits, PrepareReport& report) {
  DocumentReader reader(inputs.files);
  for (bool more = true; more;) {
    std::vector<RawDocument> batch;
    for (size_t bytes = 0; more && batch.size() < kBatchDocuments && bytes < kBatchBytes;) {
      RawDocument document;
      LACUNA_ASSIGN_OR_RETURN(more, reader.Next(&document));
      if (!more) break;
      bytes += document.bytes.size();
      batch.push_back(std::move(document));
    }
    std::vector<Tokenized> tokenized(batch.size());
    // A document's cost is not known; waking a thread for a batch always pays.
    ParallelFor(static_cast<int64_t>(batch.size()), 1 << 20, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      tokenized[at] = Tokenize(std::move(batch[at]), tokenizer, token_bytes, options);
    });
    for (Tokenized& document : tokenized)
      LACUNA_RETURN_IF_ERROR(Write(std::move(document), splits, report));
  }
  for (ShardSet& split : splits) LACUNA_RETURN_IF_ERROR(split.Finish());
  if (splits.front().report().documents == 0) {
    return DataError("{}: no text for training: {} documents are empty", options.inputs.front(),
                     report.empty_documents);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Holdout> Holdout::Parse(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return ConfigError("hold-out \"{}\": must be name=fraction or name=path", text);
  }
  Holdout holdout{.name = text.substr(0, equals), .prefix = "", .fraction = 0};
  const std::string value = text.substr(equals + 1);
  const auto [end, error] =
      std::from_chars(value.data(), value.data() + value.size(), holdout.fraction);
  if (error != std::errc() || end != value.data() + value.size()) {
    holdout.fraction = 0;
    holdout.prefix = value;
  } else if (!(holdout.fraction > 0 && holdout.fraction < 1)) {
    return ConfigError("hold-out \"{}\": the fraction must be above 0 and below 1", text);
  }
  return holdout;
}

absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const InputFiles inputs, FindInputs(options.inputs, options.extensions));
  LACUNA_RETURN_IF_ERROR(CheckOptions(options, inputs));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(options.tokenizer));
  LACUNA_RETURN_IF_ERROR(MakeDirectories(options.output, ExitCode::kData));
  const TokenShardInfo info{.vocab_size = tokenizer.vocab_size(),
                            .eod_id = tokenizer.eod_id(),
                            .tokenizer_hash = tokenizer.hash(),
                            .source = options.source,
                            .licence = options.licence,
                            .content_hash = 0};
  const std::vector<uint16_t> token_bytes = TokenBytes(tokenizer);
  std::deque<ShardSet> splits;  // they do not move
  splits.emplace_back(options.output, options.name, info, token_bytes, options.shard_tokens);
  for (const Holdout& holdout : options.holdouts) {
    splits.emplace_back(options.output, holdout.name, info, token_bytes, options.shard_tokens);
  }
  std::vector<std::string> existing;
  for (const ShardSet& split : splits) {
    LACUNA_ASSIGN_OR_RETURN(const auto found, split.Existing());
    existing.insert(existing.end(), found.begin(), found.end());
  }
  if (!existing.empty() && !options.overwrite) {
    return ConfigError("{}: exists already (with {} others); --overwrite replaces them",
                       existing.front(), existing.size() - 1);
  }
  PrepareReport report{.splits = {},
                       .files = static_cast<int64_t>(inputs.files.size()),
                       .other_files = inputs.other_files};
  LACUNA_RETURN_IF_ERROR(WriteAll(inputs, tokenizer, token_bytes, options, splits, report));
  for (const std::string& path : existing)
    LACUNA_RETURN_IF_ERROR(RemoveTree(path, ExitCode::kData));
  for (ShardSet& split : splits) {
    LACUNA_RETURN_IF_ERROR(split.Publish());
    report.splits.push_back(split.report());
  }
  return report;
}

std::string ToString(const PrepareReport& report) {
  std::string text = fmt::format("{:<16} {:>7} {:>11} {:>15} {:>15} {:>11}\n", "split", "shards",
                                 "documents", "bytes", "tokens", "bytes/token");
  for (const SplitReport& split : report.splits) {
    const double bytes_per_token =
        static_cast<double>(split.bytes) / static_cast<double>(std::max<int64_t>(split.tokens, 1));
    text += fmt::format("{:<16} {:>7} {:>11} {:>15} {:>15} {:>11.3f}\n", split.name, split.shards,
                        split.documents, split.bytes, split.tokens, bytes_per_token);
  }
  text += fmt::format("files: {} read", report.files);
  if (report.other_files > 0)
    text += fmt::format(", {} with other extensions left out", report.other_files);
  text += fmt::format(
      "\ndocuments: {} empty left out, {} with a byte order mark removed, {} with CRLF made LF, {} "
      "repaired to UTF-8\n",
      report.empty_documents, report.byte_order_marks, report.crlf_documents,
      report.repaired_documents);
  if (report.id_documents > 0) {
    text += fmt::format(
        "token ids: {} documents, the end of document added to {}, {} with another one inside\n",
        report.id_documents, report.ends_added, report.inner_end_documents);
  }
  return text;
}

}  // namespace lacuna
