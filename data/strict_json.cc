#include "data/strict_json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"

namespace lacuna {
namespace {

using nlohmann::json;

// What the parser itself lets pass.
struct Strictness {
  int max_depth;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string repeated;
  bool too_deep = false;

  bool Accept(int depth, json::parse_event_t event, const json& parsed) {
    too_deep = too_deep || depth > max_depth;
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get_ref<const std::string&>()).second && repeated.empty())
      repeated = Shown(parsed);
    return !too_deep;
  }
};

}  // namespace

std::string Shown(const json& value) {
  constexpr size_t kLongest = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest - 3) + "...";
  return text;
}

absl::StatusOr<json> ParseStrictJson(std::string_view text, const std::string& name,
                                     int max_depth) {
  Strictness strictness{.max_depth = max_depth, .keys = {}, .repeated = {}};
  json document;
  try {
    document = json::parse(text, [&](int depth, json::parse_event_t event, json& parsed) {
      return strictness.Accept(depth, event, parsed);
    });
  } catch (const json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string what = error.what();
    what = what.substr(std::min(what.size(), what.find("] ") + 2));
    std::replace_if(
        what.begin(), what.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20; }, ' ');
    return DataError("{}: {}", name, what);
  }
  if (strictness.too_deep) return DataError("{}: nested more than {} levels deep", name, max_depth);
  if (!strictness.repeated.empty())
    return DataError("{}: has the key {} twice", name, strictness.repeated);
  return document;
}

absl::StatusOr<json> ReadStrictJson(const std::string& path, int64_t max_bytes, int max_depth) {
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes, ExitCode::kData));
  return ParseStrictJson(text, path, max_depth);
}

}  // namespace lacuna
