#include "tools/inspect/megatron_view.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "data/prepare/megatron_file.h"
#include "data/tokenizer/utf8.h"

namespace lacuna::tools {
namespace {

std::string HeaderText(const MegatronFile& file) {
  std::vector<int64_t> lengths;
  for (int64_t d = 0; d < file.num_documents(); ++d) lengths.push_back(file.DocumentTokens(d));
  std::sort(lengths.begin(), lengths.end());
  std::string text = fmt::format("{}: Megatron data set, its index holds\n", file.path());
  text += fmt::format("  tokens     {} as {}\n", file.num_tokens(), file.type_name());
  text += fmt::format("  sequences  {}\n", file.num_sequences());
  text += fmt::format("  documents  {}", file.num_documents());
  if (!lengths.empty()) {
    text += fmt::format(", of {} to {} tokens, median {}", lengths.front(), lengths.back(),
                        lengths[lengths.size() / 2]);
  }
  return text + "\n";
}

// For a terminal: control characters and the bytes of a cut character are shown, not sent.
std::string Visible(std::string_view bytes) {
  const bool cut = FirstInvalidUtf8(bytes) >= 0;
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < bytes.size() && static_cast<uint8_t>(bytes[i + 1]) < 0xA0;
    const bool shown = byte == '\n' || byte == '\t' ||
                       (byte >= ' ' && byte != 0x7F && !c1 && !(cut && byte >= 0x80));
    text += shown ? std::string(1, bytes[i]) : fmt::format("\\x{:02X}", byte);
  }
  return text;
}

absl::StatusOr<std::string> DocumentText(const MegatronFile& file, int64_t d,
                                         const MegatronViewOptions& options) {
  const int64_t count = file.DocumentTokens(d), shown = std::min(count, options.tokens);
  std::string bytes;
  std::vector<int32_t> ids;
  LACUNA_RETURN_IF_ERROR(file.ReadBytes(d, shown, &bytes));
  const int64_t vocab_size =
      options.tokenizer ? options.tokenizer->vocab_size() : int64_t{INT32_MAX} + 1;
  LACUNA_RETURN_IF_ERROR(file.ParseTokens(d, bytes, vocab_size, &ids));
  std::string text = fmt::format("\n--- document {}: {} tokens\n", d, count);
  text += options.tokenizer ? Visible(options.tokenizer->Decode(ids))
                            : fmt::format("{}", fmt::join(ids, " "));
  return text + (shown < count ? fmt::format("\n... {} more tokens\n", count - shown) : "\n");
}

}  // namespace

absl::Status InspectMegatron(const MegatronViewOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const MegatronFile file, MegatronFile::Open(options.path));
  if (options.document >= std::max<int64_t>(file.num_documents(), 1)) {
    return ConfigError("inspect: --document {}: {} holds {} documents", options.document,
                       options.path, file.num_documents());
  }
  std::fputs(HeaderText(file).c_str(), stdout);
  const int64_t last =
      options.document + std::min(options.documents, file.num_documents() - options.document);
  for (int64_t d = options.document; d < last; ++d) {
    LACUNA_ASSIGN_OR_RETURN(const std::string text, DocumentText(file, d, options));
    std::fputs(text.c_str(), stdout);
  }
  return absl::OkStatus();
}

}  // namespace lacuna::tools
