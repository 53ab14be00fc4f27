#include "data/prepare/prepare.h"

#include <algorithm>
#include <deque>
#include <span>
#include <utility>

#include "core/io/file.h"
#include "core/parallel.h"
#include "data/prepare/document_tokens.h"
#include "data/prepare/shard_set.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {
namespace {

// A batch is read, then tokenized by all threads, then written in order.
constexpr size_t kBatchDocuments = 4096;
constexpr size_t kBatchBytes = size_t{32} << 20;

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
  if (options.max_tokens < 0)
    return ConfigError("prepare: max_tokens = {}, must be at least 0", options.max_tokens);
  if (options.shard_tokens < 1)
    return ConfigError("prepare: shard_tokens = {}, must be at least 1", options.shard_tokens);
  std::vector<std::string> names = {options.name};
  double sum = 0;
  for (const Holdout& holdout : options.holdouts) {
    names.push_back(holdout.name);
    sum += holdout.fraction;
    const auto is_below = [&](const InputFile& file) { return holdout.HoldsFile(file.name); };
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

absl::Status Write(const DocumentTokens& document, std::deque<ShardSet>& splits,
                   PrepareReport& report) {
  report.byte_order_marks += document.had_byte_order_mark;
  report.crlf_documents += document.had_crlf;
  report.repaired_documents += document.repaired;
  report.id_documents += document.was_ids;
  report.ends_added += document.end_added;
  report.inner_end_documents += document.inner_end;
  switch (document.left_out) {
    case DocumentTokens::LeftOut::kNo:
      return splits[document.split].Add(document.tokens, document.text_bytes, document.loss_mask);
    case DocumentTokens::LeftOut::kEmpty:
      ++report.empty_documents;
      break;
    case DocumentTokens::LeftOut::kTooLong:
      ++report.long_conversations;
      break;
    case DocumentTokens::LeftOut::kNoLoss:
      ++report.no_loss_conversations;
      break;
  }
  return absl::OkStatus();
}

absl::Status WriteAll(const InputFiles& inputs, const Tokenizer& tokenizer,
                      std::span<const uint16_t> token_bytes, const PrepareOptions& options,
                      std::deque<ShardSet>& splits, PrepareReport& report) {
  LACUNA_ASSIGN_OR_RETURN(const DocumentTokenizer document_tokenizer,
                          DocumentTokenizer::Create(tokenizer, token_bytes, options));
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
    std::vector<absl::StatusOr<DocumentTokens>> tokenized(batch.size(), DocumentTokens());
    // A document's cost is not known; waking a thread for a batch always pays.
    ParallelFor(static_cast<int64_t>(batch.size()), 1 << 20, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      tokenized[at] = document_tokenizer.Tokenize(std::move(batch[at]));
    });
    for (const absl::StatusOr<DocumentTokens>& document : tokenized) {
      if (!document.ok()) return document.status();
      LACUNA_RETURN_IF_ERROR(Write(*document, splits, report));
    }
  }
  for (ShardSet& split : splits) LACUNA_RETURN_IF_ERROR(split.Finish());
  if (splits.front().report().documents > 0) return absl::OkStatus();
  if (options.chat_template == ChatTemplateKind::kNone) {
    return DataError("{}: no text for training: {} documents are empty", options.inputs.front(),
                     report.empty_documents);
  }
  return DataError(
      "{}: no conversation for training: {} are longer than max_tokens, {} have no loss",
      options.inputs.front(), report.long_conversations, report.no_loss_conversations);
}

}  // namespace

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
                            .chat = options.chat_template == ChatTemplateKind::kNone
                                        ? ""
                                        : DescribeChat(options.chat_template, options.chat),
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
                       .chat = info.chat,
                       .max_tokens = options.max_tokens,
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

}  // namespace lacuna
