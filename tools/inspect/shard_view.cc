#include "tools/inspect/shard_view.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <optional>
#include <vector>

#include "core/status.h"
#include "data/token_shard.h"
#include "data/tokenizer/tokenizer.h"
#include "tools/inspect/token_text.h"

namespace lacuna::tools {
namespace {

std::string HeaderText(const TokenShard& shard) {
  const TokenShardInfo& info = shard.info();
  const auto bytes =
      std::accumulate(shard.document_bytes().begin(), shard.document_bytes().end(), int64_t{0});
  std::vector<int64_t> lengths;
  for (size_t d = 0; d + 1 < shard.document_offsets().size(); ++d) {
    lengths.push_back(shard.document_offsets()[d + 1] - shard.document_offsets()[d]);
  }
  std::sort(lengths.begin(), lengths.end());
  std::string text = fmt::format("{}: token shard, verified\n", shard.path());
  text += fmt::format("  source     {}\n", info.source.empty() ? "-" : info.source);
  text += fmt::format("  licence    {}\n", info.licence.empty() ? "-" : info.licence);
  text += fmt::format("  tokenizer  {} (vocabulary {}, end of document {})\n",
                      ToHex(info.tokenizer_hash), info.vocab_size, info.eod_id);
  text += fmt::format("  contents   {}\n", ToHex(info.content_hash));
  text += fmt::format("  documents  {}, of {} to {} tokens, median {}\n", shard.num_documents(),
                      lengths.front(), lengths.back(), lengths[lengths.size() / 2]);
  text += fmt::format("  tokens     {} for {} bytes of text, {:.3f} bytes a token\n",
                      shard.num_tokens(), bytes,
                      static_cast<double>(bytes) / static_cast<double>(shard.num_tokens()));
  if (!shard.loss_mask().empty()) {
    const auto masked = std::count(shard.loss_mask().begin(), shard.loss_mask().end(), uint8_t{0});
    text += fmt::format("  masked     {} tokens are without a loss\n", masked);
  }
  return text;
}

DocumentTokens TokensOf(const TokenShard& shard, int64_t begin, int64_t end) {
  DocumentTokens document;
  document.ids.resize(static_cast<size_t>(end - begin));
  shard.Read(begin, end - begin, document.ids.data());
  const auto mask = shard.loss_mask();
  for (int64_t t = begin; t < end; ++t)
    document.predicted.push_back(t > begin && (mask.empty() || mask[static_cast<size_t>(t)] != 0));
  return document;
}

}  // namespace

bool ShardView::Recognises(const std::string& path, std::string_view head) const {
  // A shard's seal stands in HDF5's user block, so the signature comes behind 512 bytes.
  constexpr std::string_view kHdf5Signature = "\x89HDF\r\n\x1a\n";
  return head.starts_with(kHdf5Signature) ||
         head.substr(std::min<size_t>(512, head.size())).starts_with(kHdf5Signature) ||
         path.ends_with(".h5");
}

void ShardView::AddOptions(CLI::App& command) {
  command.add_option("--document", document_, "First document to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--documents", documents_, "Documents to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

absl::Status ShardView::Show(const InspectOptions& options) const {
  LACUNA_ASSIGN_OR_RETURN(const TokenShard shard, TokenShard::Open(options.path));
  std::optional<Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    LACUNA_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(options.tokenizer));
    if (tokenizer->hash() != shard.info().tokenizer_hash) {
      return DataError("{}: is tokenizer {}, the shard {} was made with {}", options.tokenizer,
                       ToHex(tokenizer->hash()), options.path, ToHex(shard.info().tokenizer_hash));
    }
  }
  if (document_ >= shard.num_documents()) {
    return ConfigError("inspect: --document {}: {} holds documents 0 to {}", document_,
                       options.path, shard.num_documents() - 1);
  }
  std::fputs(HeaderText(shard).c_str(), stdout);
  const int64_t count = std::min(documents_, shard.num_documents() - document_);
  for (int64_t d = document_; d < document_ + count; ++d) {
    const auto at = static_cast<size_t>(d);
    const DocumentTokens document =
        TokensOf(shard, shard.document_offsets()[at], shard.document_offsets()[at + 1]);
    std::string line = fmt::format("\n--- document {}: {} tokens, {} bytes", d, document.ids.size(),
                                   shard.document_bytes()[at]);
    if (document.num_masked() > 0) line += fmt::format(", {} masked", document.num_masked());
    const TextStyle style = {
        .tokenizer = tokenizer ? &*tokenizer : nullptr, .colour = options.colour, .number = d};
    std::fputs((line + '\n' + DocumentText(document, options.tokens, style)).c_str(), stdout);
  }
  return absl::OkStatus();
}

}  // namespace lacuna::tools
