#include "recipes/schema/keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "recipes/schema/did_you_mean.h"

namespace lacuna {

std::string JoinPath(const std::string& section, const std::string& key) {
  return section.empty() ? key : section + "." + key;
}

void Expected(const YamlNode& node, const std::string& path, const std::string& what,
              ReadReport* report) {
  report->unread.push_back(path);
  report->violations.push_back(
      fmt::format("{}: {}: expected {}, got {}", node.where, path, what, Found(node)));
}

void UnknownKey(const YamlEntry& entry, const std::string& section,
                const std::vector<std::string>& known, ReadReport* report) {
  YamlNode shown{.kind = YamlNode::Kind::kScalar, .text = entry.key};
  const std::string quoted = Found(shown);  // cut to a readable length
  const std::string path = JoinPath(section, quoted.substr(1, quoted.size() - 2));
  std::string meant = NearestName(entry.key, known);
  if (!meant.empty()) meant = JoinPath(section, meant);
  // The right key in the wrong section is the next likely mistake.
  for (const std::string& other : report->all_paths) {
    const size_t dot = other.rfind('.');
    if (meant.empty() && dot != other.npos && other.substr(dot + 1) == entry.key) meant = other;
  }
  if (!meant.empty()) report->unread.push_back(meant);
  const std::string hint = meant.empty() ? fmt::format("allowed are {}", fmt::join(known, ", "))
                                         : fmt::format("did you mean {}?", meant);
  report->violations.push_back(fmt::format("{}: {}: unknown key; {}", entry.where, path, hint));
}

}  // namespace lacuna
