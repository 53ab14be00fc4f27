// The schema's machinery. Each struct of a recipe has one table of its keys: name, member,
// documentation. Reading, writing, the check for unknown keys and `lacuna plan --keys` all come
// from that table.
//
//   template <> inline constexpr bool kIsSection<RunConfig> = true;
//   template <> const std::vector<Key<RunConfig>>& KeysOf() {
//     static const std::vector<Key<RunConfig>> keys = {MakeKey("name", &RunConfig::name, "name of
//       the run"), ...};
//     return keys;
//   }
//
// A member may be int64_t, double, bool, std::string, an enum with EnumNames, another section, a
// vector of sections, or a type with its own ReadValue, ValueText and TypeText.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "recipes/schema/key_values.h"
#include "recipes/schema/yaml_node.h"

namespace lacuna {

// One line of the documentation.
struct KeyInfo {
  std::string path;  // "model.width"; "data.sources[].name" inside lists
  std::string type;  // "integer", "full | nsa", ...
  std::string default_text;
  std::string doc;
};

template <class S>
struct Key {
  std::string name;
  std::string doc;
  std::function<void(const YamlNode&, const std::string& path, S*, ReadReport*)> read;
  std::function<void(const S&, int indent, std::string*)>
      write;  // appends "name: value\n", or the block below "name:"
  std::function<void(const S& defaults, const std::string& path, std::vector<KeyInfo>*)> describe;
};

template <class T>
inline constexpr bool kIsSection = false;
template <class S>
const std::vector<Key<S>>& KeysOf();

// Records an unknown key, with the nearest of `known`, or the section of report->all_paths in which
// a key of that name lives.
void UnknownKey(const YamlEntry& entry, const std::string& section,
                const std::vector<std::string>& known, ReadReport* report);

std::string JoinPath(const std::string& section, const std::string& key);

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;

// ---- Sections.
template <class S>
void ReadSection(const YamlNode& node, const std::string& path, S* section, ReadReport* report) {
  if (node.kind != YamlNode::Kind::kMap) return Expected(node, path, "keys", report);
  for (const YamlEntry& entry : node.entries) {
    const Key<S>* found = nullptr;
    std::vector<std::string> known;
    for (const Key<S>& key : KeysOf<S>()) {
      if (key.name == entry.key) found = &key;
      known.push_back(key.name);
    }
    if (found == nullptr) {
      UnknownKey(entry, path, known, report);
      continue;
    }
    const std::string key_path = JoinPath(path, entry.key);
    report->where[key_path] = entry.value.where;
    found->read(entry.value, key_path, section, report);
  }
}

template <class S>
void WriteSection(const S& section, int indent, std::string* out) {
  for (const Key<S>& key : KeysOf<S>()) key.write(section, indent, out);
}

template <class S>
void DescribeSection(const S& defaults, const std::string& path, std::vector<KeyInfo>* out) {
  for (const Key<S>& key : KeysOf<S>()) key.describe(defaults, JoinPath(path, key.name), out);
}

// ---- Lists of sections.
template <class S>
void ReadList(const YamlNode& node, const std::string& path, std::vector<S>* list,
              ReadReport* report) {
  if (node.kind != YamlNode::Kind::kList) return Expected(node, path, "a list", report);
  list->clear();
  for (const YamlNode& item : node.items) {
    const std::string item_path = path + "[" + std::to_string(list->size()) + "]";
    report->where[item_path] = item.where;
    ReadSection(item, item_path, &list->emplace_back(), report);
  }
}

template <class S>
void WriteList(const std::vector<S>& list, int indent, std::string* out) {
  for (const S& item : list) {
    const size_t begin = out->size();
    WriteSection(item, indent + 2, out);
    (*out)[begin + static_cast<size_t>(indent)] = '-';
  }
}

template <class S, class T>
Key<S> MakeKey(const char* name, T S::*member, const char* doc) {
  Key<S> key{.name = name, .doc = doc, .read = {}, .write = {}, .describe = {}};
  key.read = [member](const YamlNode& node, const std::string& path, S* s, ReadReport* report) {
    if constexpr (kIsVector<T>) {
      ReadList(node, path, &(s->*member), report);
    } else if constexpr (kIsSection<T>) {
      ReadSection(node, path, &(s->*member), report);
    } else {
      ReadValue(node, path, &(s->*member), report);
    }
  };
  key.write = [member, name = std::string(name)](const S& s, int indent, std::string* out) {
    out->append(static_cast<size_t>(indent), ' ').append(name).append(":");
    if constexpr (kIsVector<T>) {
      *out += (s.*member).empty() ? " []\n" : "\n";
      WriteList(s.*member, indent + 2, out);
    } else if constexpr (kIsSection<T>) {
      *out += "\n";
      WriteSection(s.*member, indent + 2, out);
    } else {
      out->append(" ").append(ValueText(s.*member)).append("\n");
    }
  };
  key.describe = [member, doc = std::string(doc)](const S& defaults, const std::string& path,
                                                  std::vector<KeyInfo>* out) {
    if constexpr (kIsVector<T>) {
      out->push_back({path, "list", "[]", doc});
      DescribeSection(typename T::value_type{}, path + "[]", out);
    } else if constexpr (kIsSection<T>) {
      out->push_back({path, "section", "", doc});
      DescribeSection(defaults.*member, path, out);
    } else {
      out->push_back({path, TypeText(defaults.*member), ValueText(defaults.*member), doc});
    }
  };
  return key;
}

// A key of this section whose value stands in a part of it.
template <class S, class P>
Key<S> KeyWithin(P S::*part, Key<P> key) {
  return {
      .name = key.name,
      .doc = key.doc,
      .read = [=](const YamlNode& node, const std::string& path, S* s,
                  ReadReport* report) { key.read(node, path, &(s->*part), report); },
      .write = [=](const S& s, int indent, std::string* out) { key.write(s.*part, indent, out); },
      .describe = [=](const S& defaults, const std::string& path,
                      std::vector<KeyInfo>* out) { key.describe(defaults.*part, path, out); }};
}

}  // namespace lacuna
