#include "data/prepare/document_text.h"

#include <nlohmann/json.hpp>

#include "core/status.h"
#include "data/json_line.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

absl::StatusOr<std::string> TextOfJson(const RawDocument& document, const std::string& key) {
  LACUNA_ASSIGN_OR_RETURN(nlohmann::json object, ParseJsonLine(document.bytes, document.Where()));
  if (!object.is_object())
    return DataError("{}: is a JSON {}, must be an object with \"{}\"", document.Where(),
                     object.type_name(), key);
  const auto found = object.find(key);
  if (found == object.end()) {
    std::string keys;
    for (const auto& [name, value] : object.items()) keys += (keys.empty() ? "" : ", ") + name;
    constexpr size_t kMostShown = 100;
    const bool chat = object.contains("messages") || object.contains("conversations") ||
                      object.contains("completion");
    return DataError("{}: has no key \"{}\", only {}{}", document.Where(), key,
                     keys.empty() ? "{}" : OneLine(keys, kMostShown),
                     chat ? "; --chat reads conversations" : "");
  }
  if (!found->is_string())
    return DataError("{}: \"{}\" is a JSON {}, must be a string", document.Where(), key,
                     found->type_name());
  return std::move(found->get_ref<std::string&>());
}

}  // namespace

bool CrlfToLf(std::string* text) {
  size_t in = text->find("\r\n");
  if (in == std::string::npos) return false;
  size_t out = in;
  for (; in < text->size(); ++in) {
    if ((*text)[in] == '\r' && in + 1 < text->size() && (*text)[in + 1] == '\n') continue;
    (*text)[out++] = (*text)[in];
  }
  text->resize(out);
  return true;
}

absl::Status CheckUtf8(RawDocument* document, const TextOptions& options, bool* repaired) {
  const int64_t invalid = FirstInvalidUtf8(document->bytes);
  if (invalid >= 0 && !options.replace_invalid_utf8) {
    const auto byte = static_cast<uint8_t>(document->bytes[static_cast<size_t>(invalid)]);
    const bool utf16 =
        document->bytes.starts_with("\xFF\xFE") || document->bytes.starts_with("\xFE\xFF");
    return DataError(
        "{}: byte {} (0x{:02X}) is not UTF-8{}; --replace-invalid-utf8 puts U+FFFD there",
        document->Where(), invalid + (document->had_byte_order_mark ? 3 : 0), byte,
        utf16 ? " (the file looks like UTF-16)" : "");
  }
  if (invalid >= 0) {
    document->bytes = ReplaceInvalidUtf8(document->bytes);
    *repaired = true;
  }
  return absl::OkStatus();
}

absl::StatusOr<DocumentText> ExtractText(RawDocument document, const TextOptions& options) {
  DocumentText result;
  if (document.megatron)
    return DataError("{}: is token ids, text is needed here", document.file->path);
  LACUNA_RETURN_IF_ERROR(CheckUtf8(&document, options, &result.repaired));
  if (document.line > 0) {
    LACUNA_ASSIGN_OR_RETURN(result.text, TextOfJson(document, options.text_key));
  } else {
    result.text = std::move(document.bytes);
  }
  if (!options.keep_crlf) result.had_crlf = CrlfToLf(&result.text);
  return result;
}

}  // namespace lacuna
