// A Megatron data set (*.idx, *.bin): what it holds, then some of its documents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna::tools {

struct MegatronViewOptions {
  std::string path;                    // the .idx
  std::optional<Tokenizer> tokenizer;  // none: ids in place of text
  int64_t document = 0;                // the first to show
  int64_t documents = 3;               // how many
  int64_t tokens = 200;                // most tokens to show of each
};

// Prints to standard output. Errors: MegatronFile's; a document that the file lacks (config).
absl::Status InspectMegatron(const MegatronViewOptions& options);

}  // namespace lacuna::tools
