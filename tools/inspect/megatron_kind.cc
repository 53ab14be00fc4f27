#include "tools/inspect/megatron_kind.h"

#include "core/status.h"
#include "tools/inspect/megatron_view.h"

namespace lacuna::tools {

bool MegatronKind::Recognises(const std::string& path, std::string_view head) const {
  return head.starts_with("MMIDIDX") || path.ends_with(".idx");
}

void MegatronKind::AddOptions(CLI::App& command) {
  command.add_option("--first", first_, "First document to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--count", count_, "Documents to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

absl::Status MegatronKind::Show(const InspectOptions& options) const {
  MegatronViewOptions view{.path = options.path,
                           .tokenizer = {},
                           .document = first_,
                           .documents = count_,
                           .tokens = options.tokens};
  if (!options.tokenizer.empty()) {
    LACUNA_ASSIGN_OR_RETURN(view.tokenizer, Tokenizer::Load(options.tokenizer));
  }
  return InspectMegatron(view);
}

}  // namespace lacuna::tools
