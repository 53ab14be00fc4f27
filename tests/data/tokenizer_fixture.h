// The golden file of tests/data/tokenizer_golden.py, and tokenizers made from it.
#pragma once

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/io/file.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna::test {

inline const nlohmann::json& Golden() {
  static const nlohmann::json golden = [] {
    const char* source = std::getenv("LACUNA_SOURCE_DIR");
    LACUNA_CHECK(source, "LACUNA_SOURCE_DIR is not set");
    const auto text = ReadFile(std::string(source) + "/tests/data/tokenizer_golden.json", 1 << 24,
                               ExitCode::kData);
    LACUNA_CHECK(text.ok(), "{}", Message(text.status()));
    return nlohmann::json::parse(*text);
  }();
  return golden;
}

// The golden tokenizer changed by a JSON merge patch.
inline nlohmann::json Patched(const nlohmann::json& patch) {
  nlohmann::json document = Golden()["base"];
  document.merge_patch(patch);
  return document;
}

inline absl::StatusOr<Tokenizer> TryMake(const nlohmann::json& document) {
  return Tokenizer::FromJson(document.dump(), "t.json");
}

inline Tokenizer Make(const nlohmann::json& document) {
  auto tokenizer = TryMake(document);
  LACUNA_CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

inline std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text,
                                SpecialTokens specials = SpecialTokens::kAsText) {
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(text, &ids, specials);
  LACUNA_CHECK(status.ok(), "{}", Message(status));
  return ids;
}

}  // namespace lacuna::test
