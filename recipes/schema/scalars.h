// Strict readings of a scalar's text, and the text that reads back as the same value. YAML's own
// guesses (octal 010, 0x10, yes/no, '5' as a number) are refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "recipes/schema/yaml_node.h"

namespace lacuna {

// Each sets *value and returns an empty string, or returns what was expected ("an integer", ...),
// *value unchanged.
//   int64   decimal digits with an optional minus; no sign +, leading zeros, exponent, point or
//           separators
//   double  the same with a fraction and an exponent; finite, and neither overflow nor underflow
//   bool    true or false
//   string  plain or quoted, one line, no control characters
std::string ReadScalar(const YamlNode& node, int64_t* value);
std::string ReadScalar(const YamlNode& node, double* value);
std::string ReadScalar(const YamlNode& node, bool* value);
std::string ReadScalar(const YamlNode& node, std::string* value);

// Shortest text that reads back as exactly the value; a double always has a point or an exponent.
std::string ScalarText(int64_t value);
std::string ScalarText(double value);
std::string ScalarText(bool value);
// Plain where no reader could take it for anything else, else in double quotes.
std::string ScalarText(const std::string& value);

}  // namespace lacuna
