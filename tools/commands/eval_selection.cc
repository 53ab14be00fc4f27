// lacuna eval selection: the blocks that queries of a held-out text select.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "core/io/file.h"
#include "core/status.h"
#include "recipes/evaluation/selected_lists.h"
#include "tools/commands/evaluation.h"

namespace lacuna::tools {
namespace {

struct SelectionArguments {
  RunArguments run;
  int64_t length = 0;
  int64_t layer = -1;
  std::string dump;
};

absl::Status RunSelection(const SelectionArguments& arguments) {
  LACUNA_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadEvaluated(arguments.run));
  if (!loaded.recipe.uses_nsa())
    return ConfigError("{}: the model has no sparse attention", arguments.run.run_dir);
  if (loaded.recipe.data.validation.empty())
    return ConfigError("{}: the recipe has no data.validation", arguments.run.run_dir);
  const int64_t length =
      arguments.length > 0 ? arguments.length : loaded.recipe.train.sequence_length;
  LACUNA_ASSIGN_OR_RETURN(const auto set, OpenValidationSet(loaded, 0, length));
  const std::vector<int32_t> ids = FirstTokensOf(set->corpus(), length);
  if (static_cast<int64_t>(ids.size()) < length)
    return ConfigError("--length {}: validation set {} has {} tokens", length, set->name(),
                       ids.size());
  const std::vector<LayerLists> layers = SelectLists(*loaded.model.model, ids);
  const auto dumped = arguments.layer < 0
                          ? layers.end() - 1
                          : std::find_if(layers.begin(), layers.end(), [&](const LayerLists& l) {
                              return l.layer == arguments.layer;
                            });
  if (dumped == layers.end())
    return ConfigError("--layer {}: must be one of the model's {} layers", arguments.layer,
                       loaded.recipe.model.num_layers);
  fmt::print("{} tokens of {} as one document; different blocks, means over tokens and groups\n",
             length, set->name());
  std::fputs(SelectionText(layers).c_str(), stdout);
  if (!arguments.dump.empty()) {
    LACUNA_RETURN_IF_ERROR(WriteFileDurably(arguments.dump, ToNpy(dumped->lists), ExitCode::kData));
    fmt::print("\nlists of layer {}: {}\n", dumped->layer, arguments.dump);
  }
  return ReportEvaluation(arguments.run, "selection", loaded, SelectionJson(layers));
}

}  // namespace

void AddSelection(CLI::App* eval, Runner& run) {
  auto arguments = std::make_shared<SelectionArguments>();
  CLI::App* command = AddEvaluation(
      eval, "selection",
      "Blocks that the queries of a held-out text select, and how many neighbours share",
      &arguments->run);
  command->add_option("--length", arguments->length, "Tokens of the text (default: the recipe's)")
      ->check(CLI::PositiveNumber);
  command->add_option("--dump", arguments->dump,
                      "Write a layer's lists as an .npy file, int16 [tokens, groups, blocks]");
  command->add_option("--layer", arguments->layer, "Layer of --dump (default: the last)")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "Example: attention kernels on the blocks that a model selects:\n"
      "  lacuna eval selection runs/300m_pretrain_8k --device cuda --dump lists.npy\n"
      "  lacuna bench cuda --ops --match selected_attention --pattern lists.npy");
  command->callback([arguments, &run] { run = [arguments] { return RunSelection(*arguments); }; });
}

}  // namespace lacuna::tools
