// A Megatron data set (*.idx, *.bin): what it holds, then some of its documents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer.h"
#include "tools/inspect/kind.h"

namespace lacuna::tools {

struct MegatronViewOptions {
  std::string path;                    // the .idx
  std::optional<Tokenizer> tokenizer;  // none: ids in place of text
  int64_t document = 0;                // the first to show
  int64_t documents = 3;               // how many
  int64_t tokens = 200;                // most tokens to show of each
  bool colour = false;                 // for a terminal
};

// Prints to standard output. Errors: MegatronFile's; a document that the file lacks (config).
absl::Status InspectMegatron(const MegatronViewOptions& options);

class MegatronView : public InspectKind {
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
