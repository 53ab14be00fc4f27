// Bytes of a YAML file -> YamlNode, strictly. yaml-cpp only splits the text into events; everything
// it lets pass in silence is an error here: duplicate keys, aliases and anchors, tags, merge keys,
// further documents, values of several lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "recipes/schema/yaml_node.h"

namespace lacuna {

constexpr int64_t kMaxYamlBytes = 1 << 20;
constexpr int kMaxYamlDepth = 16;
constexpr int kMaxYamlNodes = 10000;

// The bytes of a regular file of at most kMaxYamlBytes. Never waits (a FIFO is refused, not opened
// for reading).
absl::StatusOr<std::string> ReadYamlFile(const std::string& path);

// Parses one document. `name` (a path) starts every message; `text` that no parser can read is a
// ConfigError with one line.
// A duplicate key does not stop the reading: it is appended to `violations`, naming both places,
// and the first value stays.
absl::StatusOr<YamlNode> ParseYaml(std::string text, const std::string& name,
                                   std::vector<std::string>* violations);

// Applies "a.b=value" to a document: the value is YAML on one line ("0.5", "[attention]"), list
// elements are named by number ("data.sources[0].weight" or "data.sources.0.weight"). A key that
// does not exist yet is added, and whoever reads the document judges it.
// Messages about the value start with "--set a.b".
absl::Status ApplyOverride(const std::string& assignment, YamlNode* root);

}  // namespace lacuna
