// How the value of one key is read, written and described: scalars and enums. Sections and lists of
// them are in recipes/schema/keys.h; a type with a notation of its own overloads the three
// functions.
#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "recipes/schema/scalars.h"
#include "recipes/schema/yaml_node.h"

namespace lacuna {

// Filled while a document is read.
struct ReadReport {
  std::vector<std::string> violations;  // complete lines, "<where>: <path>: expected ..., got ..."
  // paths of the keys that have no value because of a violation
  std::vector<std::string> unread;
  std::map<std::string, std::string>
      where;  // of every key that was given, by its path "model.yarn.factor"
  std::vector<std::string> all_paths;  // every key there is, by its path
};

// Names of an enum's values, in the order of its documentation.
template <class E>
using EnumNames = std::vector<std::pair<std::string, E>>;
template <class E>
const EnumNames<E>& NamesOf();

// Records "<where>: <path>: expected <what>, got <found>".
void Expected(const YamlNode& node, const std::string& path, const std::string& what,
              ReadReport* report);
// Sets *value, or leaves it and records what was expected.
template <class T>
void ReadValue(const YamlNode& node, const std::string& path, T* value, ReadReport* report) {
  std::string expected;
  if constexpr (std::is_enum_v<T>) {
    for (const auto& [name, e] : NamesOf<T>()) {
      if (node.kind == YamlNode::Kind::kScalar && node.text == name) {
        *value = e;
        return;
      }
      expected += expected.empty() ? "one of " : ", ";
      expected += name;
    }
  } else {
    expected = ReadScalar(node, value);
  }
  if (!expected.empty()) Expected(node, path, expected, report);
}

// The text that reads back as exactly the value.
template <class T>
std::string ValueText(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    for (const auto& [name, e] : NamesOf<T>()) {
      if (e == value) return name;
    }
    return "?";
  } else {
    return ScalarText(value);
  }
}

// What may be written, for the documentation.
template <class T>
std::string TypeText(const T&) {
  if constexpr (std::is_enum_v<T>) {
    std::string text;
    for (const auto& [name, e] : NamesOf<T>()) {
      if (!text.empty()) text += " | ";
      text += name;
    }
    return text;
  } else {
    if (std::is_same_v<T, bool>) return "true | false";
    return std::is_same_v<T, double> ? "number" : std::is_same_v<T, int64_t> ? "integer" : "string";
  }
}

}  // namespace lacuna
