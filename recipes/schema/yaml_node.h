// What a YAML document says, with the place of every value. Only mappings, lists and one-line
// scalars: a recipe needs no more.
#pragma once

#include <string>
#include <vector>

namespace lacuna {

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string where =
      {};  // "recipe.yaml:12:7" or "--set a.b": what a message about this value starts with
  std::string text = {};                // of a scalar, unquoted
  bool quoted = false;                  // a scalar in quotes: a string, never a number
  std::vector<YamlNode> items = {};     // of a list
  std::vector<YamlEntry> entries = {};  // of a map, in order
};

struct YamlEntry {
  std::string key;
  std::string where;  // of the key
  YamlNode value;
};

// What a message says was found: `"abc"`, `the quoted string "5"`, `a list`, `a mapping`,
// `nothing`. Long text is cut.
std::string Found(const YamlNode& node);

}  // namespace lacuna
