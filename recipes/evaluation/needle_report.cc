// How recipes/evaluation/needle.h's results are shown.
#include <fmt/format.h>

#include "recipes/evaluation/needle.h"
#include "recipes/evaluation/report.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

// Shares of a cell's trials, averaged over layers and groups.
double MeanSelected(const NeedleCell& cell) {
  double hits = 0, lists = 0;
  for (const auto& layer : cell.selected) {
    for (const int64_t group : layer) {
      hits += static_cast<double>(group);
      lists += 1;
    }
  }
  return lists == 0 ? 0 : hits / lists;
}

// A line for each length, a column for each depth.
template <class F>
std::string Grid(const NeedleResult& result, const NeedleOptions& options, F&& hits) {
  std::string text = fmt::format("{:>8}", "length");
  for (const int64_t depth : options.depths)
    text += fmt::format("  {:>11}", fmt::format("depth {} %", depth));
  const NeedleCell* cell = result.cells.data();
  for (const int64_t length : options.lengths) {
    text += fmt::format("\n{:>8}", FormatCount(length));
    for (size_t i = 0; i < options.depths.size(); ++i, ++cell)
      text += fmt::format("  {:>11}", Percent(hits(*cell), static_cast<double>(cell->trials)));
  }
  return text + "\n";
}

// Of one length, all depths together: a line for each layer, a column for each group.
std::string ByLayer(const NeedleResult& result, int64_t length) {
  std::string text = fmt::format("{:>8}", "layer");
  const size_t groups = result.cells[0].selected[0].size();
  for (size_t g = 0; g < groups; ++g) text += fmt::format("  {:>11}", fmt::format("group {}", g));
  for (size_t layer = 0; layer < result.layers.size(); ++layer) {
    text += fmt::format("\n{:>8}", result.layers[layer]);
    for (size_t g = 0; g < groups; ++g) {
      int64_t hits = 0, trials = 0;
      for (const NeedleCell& cell : result.cells) {
        if (cell.length != length) continue;
        hits += cell.selected[layer][g];
        trials += cell.trials;
      }
      text +=
          fmt::format("  {:>11}", Percent(static_cast<double>(hits), static_cast<double>(trials)));
    }
  }
  return text + "\n";
}

}  // namespace

std::string NeedleText(const NeedleResult& result, const NeedleOptions& options) {
  std::string text = fmt::format("right answers of {} trial{} a cell\n", options.trials,
                                 options.trials == 1 ? "" : "s");
  text += Grid(result, options,
               [](const NeedleCell& cell) { return static_cast<double>(cell.correct); });
  if (result.layers.empty()) return text;
  text += fmt::format(
      "\nneedle selected: lists of the answering query that hold every block of the number, mean "
      "of layers and groups\n");
  text += Grid(result, options, MeanSelected);
  for (const int64_t length : options.lengths) {
    const int64_t blocks = (length + result.select_block - 1) / result.select_block;
    text += fmt::format(
        "\nneedle selected at length {}, mean of depths; a list holds {} of {} "
        "blocks\n",
        FormatCount(length), std::min(blocks, result.num_selected), blocks);
    text += ByLayer(result, length);
  }
  return text;
}

nlohmann::ordered_json NeedleJson(const NeedleResult& result, const NeedleOptions& options) {
  nlohmann::ordered_json json = {{"trials", options.trials}, {"seed", options.seed}};
  if (!result.layers.empty()) {
    json["select_block"] = result.select_block;
    json["num_selected"] = result.num_selected;
    json["layers"] = result.layers;
  }
  for (const NeedleCell& cell : result.cells) {
    nlohmann::ordered_json entry = {{"length", cell.length},
                                    {"depth", cell.depth},
                                    {"trials", cell.trials},
                                    {"correct", cell.correct}};
    if (!result.layers.empty()) entry["selected"] = cell.selected;
    json["cells"].push_back(entry);
  }
  return json;
}

}  // namespace lacuna
