// A recipe's training samples, packed as the trainer sees them.
#pragma once

#include <string>
#include <vector>

#include "tools/inspect/kind.h"

namespace lacuna::tools {

class BatchView : public InspectKind {
 public:
  std::string name() const override { return "recipe (*.yaml, *.yml)"; }
  std::string example() const override {
    return "inspect recipes/quickstart.yaml --sample 40 --ranks 2 --set data.packing=best_fit";
  }
  bool Recognises(const std::string& path, std::string_view head) const override;
  void AddOptions(CLI::App& command) override;
  // Opens and verifies the recipe's data; writes nothing, the sample index neither. Errors:
  // LoadRecipe's and OpenRunInputs'.
  absl::Status Show(const InspectOptions& options) const override;

 private:
  std::vector<std::string> overrides_;
  int64_t sample_ = 0, samples_ = 1;  // of the stream: the first to show, how many
  int64_t ranks_ = 1;
};

}  // namespace lacuna::tools
