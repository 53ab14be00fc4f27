#include "data/token_corpus.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "core/parallel.h"
#include "core/status.h"

namespace lacuna {

absl::StatusOr<std::vector<std::string>> FindShards(const std::string& path) {
  std::vector<std::string> found;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    LACUNA_ASSIGN_OR_RETURN(const auto names, ListDirectory(path, ExitCode::kData));
    for (const std::string& name : names) {
      if (name.ends_with(".h5")) found.push_back((std::filesystem::path(path) / name).string());
    }
    if (found.empty()) return DataError("{}: holds no token shards (*.h5)", path);
    return found;
  }
  if (path.find_first_of("*?[") == std::string::npos || std::filesystem::exists(path, error))
    return std::vector<std::string>{path};
  glob_t matches{};
  const int result = ::glob(path.c_str(), 0, nullptr, &matches);
  for (size_t i = 0; result == 0 && i < matches.gl_pathc; ++i)
    found.emplace_back(matches.gl_pathv[i]);
  ::globfree(&matches);
  if (found.empty()) return DataError("{}: matches no files", path);
  std::sort(found.begin(), found.end());
  return found;
}

TokenCorpus TokenCorpus::Open(const std::string& path, const CorpusRequirements& requirements,
                              std::vector<std::string>* problems) {
  TokenCorpus corpus;
  const auto paths = FindShards(path);
  if (!paths.ok()) {
    problems->push_back(Message(paths.status()));
    return corpus;
  }
  std::vector<std::optional<absl::StatusOr<TokenShard>>> opened(paths->size());
  // A shard is read as a whole: always worth a thread.
  ParallelFor(static_cast<int64_t>(paths->size()), 1 << 20, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    opened[at].emplace(TokenShard::Open((*paths)[at]));
  });
  for (auto& shard : opened) {
    if (!shard->ok()) {
      problems->push_back(Message(shard->status()));
      continue;
    }
    const TokenShardInfo& info = (*shard)->info();
    if (info.tokenizer_hash != requirements.tokenizer_hash) {
      problems->push_back(fmt::format("{}: made with tokenizer {}, the recipe's is {}",
                                      (*shard)->path(), ToHex(info.tokenizer_hash),
                                      ToHex(requirements.tokenizer_hash)));
    } else if (info.vocab_size > requirements.vocab_size) {
      problems->push_back(
          fmt::format("{}: has a vocabulary of {}, the model's is {}; model.vocab_size must be at "
                      "least as large",
                      (*shard)->path(), info.vocab_size, requirements.vocab_size));
    } else if (!corpus.shards_.empty() &&
               info.vocab_size != corpus.shards_.front().info().vocab_size) {
      problems->push_back(fmt::format(
          "{}: has a vocabulary of {}, the shard {} one of {}", (*shard)->path(), info.vocab_size,
          corpus.shards_.front().path(), corpus.shards_.front().info().vocab_size));
    }
    corpus.shards_.push_back(**std::move(shard));
    corpus.document_bases_.push_back(corpus.document_bases_.back() +
                                     corpus.shards_.back().num_documents());
    corpus.token_bases_.push_back(corpus.token_bases_.back() + corpus.shards_.back().num_tokens());
  }
  return corpus;
}

uint64_t TokenCorpus::fingerprint() const {
  std::vector<uint64_t> hashes;
  for (const TokenShard& shard : shards_) hashes.push_back(shard.info().content_hash);
  return XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t));
}

TokenCorpus::Place TokenCorpus::Find(int64_t document) const {
  LACUNA_CHECK(document >= 0 && document < num_documents(), "document {} of {}", document,
               num_documents());
  const auto shard = std::upper_bound(document_bases_.begin(), document_bases_.end(), document) -
                     document_bases_.begin() - 1;
  const TokenShard& in = shards_[static_cast<size_t>(shard)];
  const int64_t number = document - document_bases_[static_cast<size_t>(shard)];
  const auto local = static_cast<size_t>(number);
  const auto offsets = in.document_offsets();
  return {&in, number, offsets[local], offsets[local + 1] - offsets[local]};
}

Fragment TokenCorpus::FindToken(int64_t position) const {
  LACUNA_CHECK(position >= 0 && position < num_tokens(), "token {} of {}", position, num_tokens());
  const auto shard =
      static_cast<size_t>(std::upper_bound(token_bases_.begin(), token_bases_.end(), position) -
                          token_bases_.begin() - 1);
  const int64_t local = position - token_bases_[shard];
  const auto offsets = shards_[shard].document_offsets();
  // The last document that begins at or before it: empty ones that begin there come first.
  const auto document =
      std::upper_bound(offsets.begin(), offsets.end(), local) - offsets.begin() - 1;
  return {document_bases_[shard] + document, local - offsets[static_cast<size_t>(document)], 1};
}

absl::Status ProblemsError(const std::vector<std::string>& problems) {
  if (problems.empty()) return absl::OkStatus();
  if (problems.size() == 1) return DataError("{}", problems.front());
  constexpr size_t kShown = 50;
  std::string message = fmt::format("data: {} problems", problems.size());
  for (size_t i = 0; i < std::min(problems.size(), kShown); ++i)
    message.append("\n  ").append(problems[i]);
  if (problems.size() > kShown)
    message += fmt::format("\n  ... and {} more", problems.size() - kShown);
  return DataError("{}", message);
}

}  // namespace lacuna
