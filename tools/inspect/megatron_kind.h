// Megatron's .idx with the .bin beside it: some of its documents.
#pragma once

#include <string>

#include "tools/inspect/kind.h"

namespace lacuna::tools {

class MegatronKind : public InspectKind {
 public:
  std::string name() const override { return "Megatron data set (*.idx)"; }
  std::string example() const override {
    return "inspect corpus.idx --tokenizer tokenizer.json --first 12 --count 2";
  }
  bool Recognises(const std::string& path, std::string_view head) const override;
  void AddOptions(CLI::App& command) override;
  // Errors: InspectMegatron's and Tokenizer::Load's.
  absl::Status Show(const InspectOptions& options) const override;

 private:
  int64_t first_ = 0, count_ = 3;
};

}  // namespace lacuna::tools
