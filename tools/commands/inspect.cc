// lacuna inspect: what a file of a run's data holds. Its kinds are in tools/inspect/.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "tools/command.h"
#include "tools/inspect/kind.h"

namespace lacuna::tools {
namespace {

using Kinds = std::vector<std::unique_ptr<InspectKind>>;

struct InspectCommand {
  InspectOptions options;
  Kinds kinds = MakeInspectKinds();
};

std::string OptionGroup(const InspectKind& kind) {
  return "For a " + kind.name();
}

absl::StatusOr<std::string> HeadOf(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const FileDescriptor file,
                          FileDescriptor::OpenRead(path, ExitCode::kConfig));
  LACUNA_ASSIGN_OR_RETURN(const int64_t bytes, file.Size());
  std::string head(static_cast<size_t>(std::min(bytes, kInspectHeadBytes)), '\0');
  LACUNA_RETURN_IF_ERROR(file.ReadAt(0, head.data(), static_cast<int64_t>(head.size())));
  return head;
}

// A file that cannot be read may still have a telling name: its kind has the better message.
absl::StatusOr<const InspectKind*> KindOf(const std::string& path, const Kinds& kinds) {
  const absl::StatusOr<std::string> head = HeadOf(path);
  std::string names;
  for (const auto& kind : kinds) {
    if (kind->Recognises(path, head.ok() ? *head : "")) return kind.get();
    names += (names.empty() ? "a " : ", a ") + kind->name();
  }
  if (!head.ok()) return head.status();
  return ConfigError("{}: unknown kind of file; inspect shows {}", path, names);
}

absl::Status Inspect(const InspectCommand& inspect, const CLI::App& command) {
  const std::string& path = inspect.options.path;
  LACUNA_ASSIGN_OR_RETURN(const InspectKind* kind, KindOf(path, inspect.kinds));
  for (const auto& other : inspect.kinds) {
    for (const CLI::Option* option : command.get_options()) {
      if (other.get() == kind || option->count() == 0 || option->get_group() != OptionGroup(*other))
        continue;
      return ConfigError("inspect: {}: is for a {}; {} is a {}", option->get_name(), other->name(),
                         path, kind->name());
    }
  }
  return kind->Show(inspect.options);
}

}  // namespace

void AddInspectCommand(CLI::App& app, Runner& run) {
  auto inspect = std::make_shared<InspectCommand>();
  InspectOptions& options = inspect->options;
  CLI::App* command =
      app.add_subcommand("inspect", "Show a token shard's documents, or a recipe's packed samples");
  std::string kinds;
  for (const auto& kind : inspect->kinds) kinds += (kinds.empty() ? "A " : ", a ") + kind->name();
  command->add_option("path", options.path, kinds)->required();
  command->add_option("--tokenizer", options.tokenizer,
                      "tokenizer.json: show text; ids without it (a recipe names its own)");
  command->add_option("--tokens", options.tokens, "Most tokens to show of a document")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--colour", options.colour, "Colours even where the output is no terminal");
  std::string examples = "Examples:\n";
  for (const auto& kind : inspect->kinds) {
    const size_t before = command->get_options().size();
    kind->AddOptions(*command);
    const std::vector<CLI::Option*> all = command->get_options({});
    for (size_t i = before; i < all.size(); ++i) all[i]->group(OptionGroup(*kind));
    examples += "  lacuna " + kind->example() + '\n';
  }
  command->footer(
      examples +
      "\nOn a terminal each document has a colour, its shade alternates from token to token, and "
      "tokens that are not\npredicted with a loss are dim. Elsewhere \u27E6 and \u27E7 stand "
      "around these, if the document has masked tokens: \u27E6a\nprompt\u27E7 its answer. Where "
      "the text has these two characters itself, they are written \\u27E6 and \\u27E7. A\n"
      "document's first token is never predicted. \\xHH: a control character, or a byte of a "
      "character that is cut.");
  command->callback([inspect, command, &run] {
    inspect->options.colour |= ::isatty(STDOUT_FILENO) == 1;
    run = [inspect, command] { return Inspect(*inspect, *command); };
  });
}

}  // namespace lacuna::tools
