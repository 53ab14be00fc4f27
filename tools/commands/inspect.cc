// lacuna inspect: what a token shard holds, and how its text is cut into tokens.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <optional>
#include <string>

#include "core/status.h"
#include "data/token_shard.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct InspectOptions {
  std::string shard;
  std::string tokenizer;
  int64_t document = 0;
  int64_t documents = 3;
  int64_t tokens = 200;
  bool colour = false;
};

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
    text += fmt::format("  loss       on {} tokens\n", shard.num_tokens() - masked);
  }
  return text;
}

// For a terminal: control characters (C0, and C1 as UTF-8) are shown, not sent, and so are the
// bytes of a cut character.
std::string Visible(const std::string& token) {
  const bool cut = FirstInvalidUtf8(token) >= 0;
  std::string text;
  for (size_t i = 0; i < token.size(); ++i) {
    const auto byte = static_cast<unsigned char>(token[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < token.size() && static_cast<unsigned char>(token[i + 1]) < 0xA0;
    if (token[i] == '\n' || token[i] == '\t' ||
        (byte >= 0x20 && byte != 0x7F && !c1 && !(cut && byte >= 0x80))) {
      text += token[i];
    } else {
      text += fmt::format("\\x{:02X}", byte);
    }
  }
  return text;
}

// Tokens [begin, end) of document `number`. On a terminal each document has a colour, shades of
// which alternate from token to token; tokens without loss are dim. Plain text: as it stands in the
// document, ids only where there is no tokenizer.
std::string TokensText(const TokenShard& shard, int64_t number, int64_t begin, int64_t end,
                       const std::optional<Tokenizer>& tokenizer, bool colour) {
  constexpr int kColours[][2] = {{38, 74},   {70, 107}, {172, 179},
                                 {133, 176}, {66, 109}, {167, 174}};
  std::vector<int32_t> ids(static_cast<size_t>(end - begin));
  shard.Read(begin, end - begin, ids.data());
  if (tokenizer && !colour) return Visible(tokenizer->Decode(ids));
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string token =
        tokenizer ? Visible(tokenizer->Decode({&ids[i], 1})) : fmt::format("{} ", ids[i]);
    const bool dim =
        !shard.loss_mask().empty() && shard.loss_mask()[static_cast<size_t>(begin) + i] == 0;
    const int shade = kColours[static_cast<size_t>(number) % std::size(kColours)][i % 2];
    text += colour ? fmt::format("\033[{}38;5;{}m{}\033[0m", dim ? "2;" : "", shade, token) : token;
  }
  return text;
}

absl::Status Inspect(const InspectOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const TokenShard shard, TokenShard::Open(options.shard));
  std::optional<Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    LACUNA_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(options.tokenizer));
    if (tokenizer->hash() != shard.info().tokenizer_hash) {
      return DataError("{}: is tokenizer {}, the shard was made with {}", options.tokenizer,
                       ToHex(tokenizer->hash()), ToHex(shard.info().tokenizer_hash));
    }
  }
  if (options.document >= shard.num_documents()) {
    return ConfigError("inspect: --document {}: {} holds {} documents", options.document,
                       options.shard, shard.num_documents());
  }
  std::fputs(HeaderText(shard).c_str(), stdout);
  const bool colour = options.colour || ::isatty(STDOUT_FILENO) == 1;
  const int64_t last = std::min(shard.num_documents(), options.document + options.documents);
  for (int64_t d = options.document; d < last; ++d) {
    const int64_t begin = shard.document_offsets()[static_cast<size_t>(d)],
                  end = shard.document_offsets()[static_cast<size_t>(d) + 1];
    const int64_t shown = std::min(end, begin + options.tokens);
    const int64_t bytes = shard.document_bytes()[static_cast<size_t>(d)];
    std::fputs(
        fmt::format("\n--- document {}: {} tokens, {} bytes\n", d, end - begin, bytes).c_str(),
        stdout);
    std::fputs(TokensText(shard, d, begin, shown, tokenizer, colour).c_str(), stdout);
    std::fputs(shown < end ? fmt::format("\n... {} more tokens\n", end - shown).c_str() : "\n",
               stdout);
  }
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "Verify a token shard; show its documents as tokens");
  command->add_option("shard", options->shard, "Token shard (*.h5)")->required();
  command->add_option("--tokenizer", options->tokenizer,
                      "tokenizer.json: show text; ids without it");
  command->add_option("--document", options->document, "First document to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--documents", options->documents, "Documents to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--tokens", options->tokens, "Most tokens to show of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--colour", options->colour, "Colours even where the output is no terminal");
  command->footer(
      "Example: lacuna inspect shards/train_00000.h5 --tokenizer tokenizer.json --document 12");
  command->callback([options, &run] { run = [options] { return Inspect(*options); }; });
}

}  // namespace lacuna::tools
