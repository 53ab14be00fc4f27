#include "recipes/schema/yaml_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>
#include <utility>

#include "core/status.h"
#include "recipes/schema/yaml_text.h"

namespace lacuna {
namespace {

// Ends the parse from inside a handler; what() is the whole message.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Builds the tree from the parser's events. Node-building through YAML::Node would hide anchors,
// tags and the second document.
class TreeBuilder : public YAML::EventHandler {
 public:
  // Without `positions` every place is `name` itself (a value from the command line has no line).
  TreeBuilder(const std::string& text, const std::string& name, bool positions,
              std::vector<std::string>* violations)
      : text_(text), name_(name), positions_(positions), violations_(violations) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) Refuse(mark, "a second document starts here; a recipe is one document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    RefuseProperties(mark, "?", anchor);
    Add(mark, {.kind = YamlNode::Kind::kNull});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark, "aliases (*name) are not allowed; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool plain = tag == "?";
    RefuseProperties(mark, plain || tag == "!" ? "?" : tag, anchor);
    const std::string_view source =
        std::string_view(text_).substr(std::min(text_.size(), static_cast<size_t>(mark.pos)));
    if (!source.empty() && source[0] == '!') Refuse(mark, "tags (!name) are not allowed");
    if (!IsOneLineScalar(source, value, plain)) {
      Refuse(
          mark,
          plain ? "a value that runs on into the next line (wrong indentation there, or an "
                  "unclosed bracket?)"
                : "a quoted value that does not end on its line (a missing quote?), or block text");
    }
    Add(mark, {.kind = YamlNode::Kind::kScalar, .text = value, .quoted = !plain});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    RefuseProperties(mark, tag, anchor);
    Open(mark, YamlNode::Kind::kList);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    RefuseProperties(mark, tag, anchor);
    Open(mark, YamlNode::Kind::kMap);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapEnd() override { Close(); }

  int documents() const { return documents_; }
  YamlNode TakeRoot() { return std::move(root_); }

 private:
  struct Level {
    YamlNode node;
    bool has_key = false;
    std::string key = {}, key_where = {};
  };

  std::string Where(const YAML::Mark& mark) const {
    return positions_ ? fmt::format("{}:{}:{}", name_, mark.line + 1, mark.column + 1) : name_;
  }
  [[noreturn]] void Refuse(const YAML::Mark& mark, const std::string& message) const {
    throw Refusal(Where(mark) + ": " + message);
  }
  void RefuseProperties(const YAML::Mark& mark, const std::string& tag,
                        YAML::anchor_t anchor) const {
    if (anchor != 0)
      Refuse(mark, "anchors (&name) are not allowed; write the value out where it is used");
    if (tag != "?") Refuse(mark, "tags (!name) are not allowed");
  }

  void CountNode(const YAML::Mark& mark) {
    if (++nodes_ > kMaxYamlNodes) Refuse(mark, fmt::format("more than {} values", kMaxYamlNodes));
  }
  void Open(const YAML::Mark& mark, YamlNode::Kind kind) {
    CountNode(mark);
    if (static_cast<int>(stack_.size()) >= kMaxYamlDepth)
      Refuse(mark, fmt::format("nested deeper than {} levels", kMaxYamlDepth));
    if (ExpectsKey()) Refuse(mark, "a key must be a plain name (an unclosed bracket?)");
    stack_.push_back({.node = {.kind = kind, .where = Where(mark)}});
  }
  void Close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Attach(std::move(node));
  }
  bool ExpectsKey() const {
    return !stack_.empty() && stack_.back().node.kind == YamlNode::Kind::kMap &&
           !stack_.back().has_key;
  }

  void Add(const YAML::Mark& mark, YamlNode node) {
    CountNode(mark);
    node.where = Where(mark);
    if (!ExpectsKey()) return Attach(std::move(node));
    if (node.kind != YamlNode::Kind::kScalar)
      Refuse(mark, "a key must be a plain name (an unclosed bracket?)");
    if (node.text == "<<") Refuse(mark, "merge keys (<<) are not allowed; write the keys out");
    stack_.back().has_key = true;
    stack_.back().key = std::move(node.text);
    stack_.back().key_where = std::move(node.where);
  }

  void Attach(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = stack_.back();
    if (level.node.kind == YamlNode::Kind::kList) {
      level.node.items.push_back(std::move(node));
      return;
    }
    level.has_key = false;
    for (const YamlEntry& other : level.node.entries) {
      if (other.key != level.key) continue;
      violations_->push_back(fmt::format("{}: {}: duplicate key, first given at {}",
                                         level.key_where, PathOf(level.key), other.where));
      return;
    }
    level.node.entries.push_back(
        {std::move(level.key), std::move(level.key_where), std::move(node)});
  }

  std::string PathOf(const std::string& key) const {
    std::string path;
    for (const Level& level : stack_) {
      if (&level != &stack_.back() && level.node.kind == YamlNode::Kind::kMap)
        path += level.key + ".";
    }
    return path + key;
  }

  const std::string& text_;
  std::string name_;
  bool positions_;
  std::vector<std::string>* violations_;
  int documents_ = 0;
  int nodes_ = 0;
  std::vector<Level> stack_;
  YamlNode root_;
};

absl::StatusOr<YamlNode> Parse(const std::string& text, const std::string& name, bool positions,
                               std::vector<std::string>* violations) {
  if (const auto complaint = FindForbiddenText(text, name)) return ConfigError("{}", *complaint);
  TreeBuilder builder(text, name, positions, violations);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    if (!positions || error.mark.is_null()) return ConfigError("{}: {}", name, error.msg);
    return ConfigError("{}:{}:{}: {}", name, error.mark.line + 1, error.mark.column + 1, error.msg);
  } catch (const Refusal& refusal) {
    return ConfigError("{}", refusal.what());
  } catch (const std::exception& error) {
    return ConfigError("{}: cannot be parsed: {}", name, error.what());
  }
  return builder.TakeRoot();
}

}  // namespace

std::string Found(const YamlNode& node) {
  constexpr size_t kShown = 60;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      break;
  }
  std::string shown = node.text.substr(0, kShown);
  for (char& c : shown) c = static_cast<uint8_t>(c) < 0x20 ? ' ' : c;
  return fmt::format("{}\"{}{}\"", node.quoted ? "the quoted string " : "", shown,
                     node.text.size() > kShown ? "..." : "");
}

absl::StatusOr<std::string> ReadYamlFile(const std::string& path) {
  const auto cannot = [&](const char* reason) {
    return ConfigError("{}: cannot read: {}", path, reason);
  };
  // Without O_NONBLOCK the open of a FIFO would wait for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return cannot(std::strerror(errno));
  const std::unique_ptr<const int, void (*)(const int*)> closer(&fd,
                                                                [](const int* f) { close(*f); });
  struct stat info {};
  if (fstat(fd, &info) != 0) return cannot(std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return cannot(std::strerror(EISDIR));
  if (!S_ISREG(info.st_mode)) return cannot("not a regular file");
  if (info.st_size > kMaxYamlBytes)
    return cannot(
        fmt::format("{} bytes, at most {} are allowed", info.st_size, kMaxYamlBytes).c_str());
  std::string text(static_cast<size_t>(kMaxYamlBytes) + 1, '\0');  // the file may grow meanwhile
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = read(fd, text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return cannot(std::strerror(errno));
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size == text.size()) return cannot("it grew beyond the size limit while being read");
  text.resize(size);
  return text;
}

absl::StatusOr<YamlNode> ParseYaml(std::string text, const std::string& name,
                                   std::vector<std::string>* violations) {
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return Parse(text, name, /*positions=*/true, violations);
}

absl::Status ApplyOverride(const std::string& assignment, YamlNode* root) {
  const size_t equals = assignment.find('=');
  const std::string path = assignment.substr(0, equals);
  if (equals == assignment.npos || path.empty())
    return ConfigError("--set {}: expected section.key=value", assignment);
  const std::string where = "--set " + path;
  std::vector<std::string> duplicates;
  LACUNA_ASSIGN_OR_RETURN(YamlNode value, Parse(assignment.substr(equals + 1), where,
                                                /*positions=*/false, &duplicates));
  if (!duplicates.empty()) return ConfigError("{}", duplicates[0]);
  value.where = where;
  YamlNode* node = root;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find_first_of(".[", begin), path.size());
    std::string key = path.substr(begin, end - begin);
    if (key.ends_with(']')) key.pop_back();  // sources[0] is sources.0
    if (node->kind == YamlNode::Kind::kNull) *node = {.kind = YamlNode::Kind::kMap, .where = where};
    if (node->kind == YamlNode::Kind::kScalar) {
      return ConfigError("{}: {} is a single value and has no keys", where,
                         begin == 0 ? "the recipe" : path.substr(0, begin - 1));
    }
    if (node->kind == YamlNode::Kind::kList) {
      const auto matches = [&](size_t i) { return std::to_string(i) == key; };
      size_t index = 0;
      while (index < node->items.size() && !matches(index)) ++index;
      if (index == node->items.size()) {
        return ConfigError("{}: {} has {} elements, numbered from 0", where,
                           path.substr(0, begin - 1), index);
      }
      node = &node->items[index];
    } else {
      auto entry = std::find_if(node->entries.begin(), node->entries.end(),
                                [&](const YamlEntry& e) { return e.key == key; });
      if (entry == node->entries.end())
        entry = node->entries.insert(entry, {.key = key, .where = where, .value = {}});
      node = &entry->value;
    }
    begin = end + 1;
  }
  if (node->kind == YamlNode::Kind::kMap && value.kind == YamlNode::Kind::kMap) {
    return ConfigError("{}: a section of its own; set one of its keys",
                       where);  // else its other keys would silently fall back
  }
  *node = std::move(value);
  return absl::OkStatus();
}

}  // namespace lacuna
