#include "tools/inspect/megatron_view.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "data/prepare/megatron_file.h"
#include "tools/inspect/token_text.h"

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

absl::StatusOr<std::string> DocumentOf(const MegatronFile& file, int64_t d,
                                       const MegatronViewOptions& options) {
  const int64_t count = file.DocumentTokens(d);
  // What DocumentText leaves out is counted and never read.
  const int64_t read = std::min(count, options.tokens);
  std::string bytes;
  DocumentTokens document;
  LACUNA_RETURN_IF_ERROR(file.ReadBytes(d, read, &bytes));
  const int64_t vocab_size =
      options.tokenizer ? options.tokenizer->vocab_size() : int64_t{INT32_MAX} + 1;
  LACUNA_RETURN_IF_ERROR(file.ParseTokens(d, bytes, vocab_size, &document.ids));
  document.predicted.assign(document.ids.size(), true);
  const TextStyle style = {.tokenizer = options.tokenizer ? &*options.tokenizer : nullptr,
                           .colour = options.colour,
                           .number = d};
  std::string text = fmt::format("\n--- document {}: {} tokens\n", d, count) +
                     DocumentText(document, options.tokens, style);
  if (read < count) text += fmt::format("... {} more tokens\n", count - read);
  return text;
}

}  // namespace

absl::Status InspectMegatron(const MegatronViewOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const MegatronFile file, MegatronFile::Open(options.path));
  if (options.document >= std::max<int64_t>(file.num_documents(), 1)) {
    return ConfigError("inspect: --first {}: {} holds {} documents", options.document, options.path,
                       file.num_documents());
  }
  std::fputs(HeaderText(file).c_str(), stdout);
  const int64_t last =
      options.document + std::min(options.documents, file.num_documents() - options.document);
  for (int64_t d = options.document; d < last; ++d) {
    LACUNA_ASSIGN_OR_RETURN(const std::string text, DocumentOf(file, d, options));
    std::fputs(text.c_str(), stdout);
  }
  return absl::OkStatus();
}

bool MegatronView::Recognises(const std::string& path, std::string_view head) const {
  return head.starts_with("MMIDIDX") || path.ends_with(".idx");
}

void MegatronView::AddOptions(CLI::App& command) {
  command.add_option("--first", first_, "First document to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--count", count_, "Documents to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

absl::Status MegatronView::Show(const InspectOptions& options) const {
  MegatronViewOptions view{.path = options.path,
                           .tokenizer = {},
                           .document = first_,
                           .documents = count_,
                           .tokens = options.tokens,
                           .colour = options.colour};
  if (!options.tokenizer.empty()) {
    LACUNA_ASSIGN_OR_RETURN(view.tokenizer, Tokenizer::Load(options.tokenizer));
  }
  return InspectMegatron(view);
}

}  // namespace lacuna::tools
