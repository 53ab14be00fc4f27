// From a raw document to the text that is tokenized.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/prepare/document_reader.h"

namespace lacuna {

struct TextOptions {
  std::string text_key = "text";  // of a JSON line's object: its text, a string
  bool keep_crlf = false;         // else "\r\n" becomes "\n"
  // U+FFFD for what is not UTF-8; else that is an error naming the byte.
  bool replace_invalid_utf8 = false;
};

struct DocumentText {
  std::string text;  // UTF-8
  bool had_crlf = false;
  bool repaired = false;
};

// An error for bytes that are not UTF-8, naming the first; where options.replace_invalid_utf8,
// repairs them and sets *repaired.
absl::Status CheckUtf8(RawDocument* document, const TextOptions& options, bool* repaired);
// "\r\n" to "\n". True where there were any.
bool CrlfToLf(std::string* text);

// Thread-safe. Data errors name file and line: no JSON object, no such key, no string, no UTF-8,
// token ids.
absl::StatusOr<DocumentText> ExtractText(RawDocument document, const TextOptions& options);

}  // namespace lacuna
