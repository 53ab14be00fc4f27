#include "data/json_line.h"

#include "core/status.h"

namespace lacuna {
namespace {

// The reason behind nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 8:
// ...", with its column.
std::string Reason(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t place = text.find("column "),
               colon = text.find(": ", place == std::string::npos ? 0 : place);
  return colon == std::string::npos || place == std::string::npos ? text : text.substr(place);
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonLine(std::string_view line, const std::string& where) {
  try {
    return nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    return DataError("{}: is no JSON: {}", where, Reason(error));
  }
}

}  // namespace lacuna
