#include <vector>

#include "core/status.h"
#include "data/tokenizer/pattern.h"

namespace lacuna {
namespace {

constexpr std::string_view kGroups[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};

bool IsHex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool IsLetterOrDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// One pass over the pattern. `atom_` is where the last repeatable item begins in the output, so
// that it can be wrapped.
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        atom_ = out_.size();
        LACUNA_RETURN_IF_ERROR(Escape());
      } else if (c == '[') {
        atom_ = out_.size();
        LACUNA_RETURN_IF_ERROR(Class());
      } else if (c == '(') {
        LACUNA_RETURN_IF_ERROR(OpenGroup());
      } else if (c == ')') {
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        Copy(1);
      } else if (const size_t length = CountedRepeat(); length > 0) {
        Repeat(length);
      } else {
        // The bytes after a character's first belong to it.
        const bool continuation = (static_cast<uint8_t>(c) & 0xC0) == 0x80;
        if (!continuation && c != '*' && c != '+' && c != '?') atom_ = out_.size();
        Copy(1);
      }
    }
    return out_;
  }

 private:
  void Copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  absl::Status Refuse(std::string_view what) const {
    return DataError("pattern \"{}\": \"{}\" at byte {} is not supported", OneLine(in_),
                     OneLine(what), at_);
  }

  absl::Status OpenGroup() {
    groups_.push_back(out_.size());
    if (in_.substr(at_, 2) != "(?") {
      if (in_.substr(at_, 2) == "(*") return Refuse("(*");
      Copy(1);
      return absl::OkStatus();
    }
    for (const std::string_view group : kGroups) {
      if (in_.substr(at_, group.size()) == group) {
        Copy(group.size());
        return absl::OkStatus();
      }
    }
    return Refuse(in_.substr(at_, 4));
  }

  // Bytes of "{n}", "{n,}", "{,m}" or "{n,m}" here; 0 where a brace is only a character.
  size_t CountedRepeat() const {
    if (in_[at_] != '{') return 0;
    size_t i = at_ + 1, digits = 0;
    for (bool comma = false; i < in_.size(); ++i) {
      if (in_[i] >= '0' && in_[i] <= '9') {
        ++digits;
      } else if (in_[i] == ',' && !comma) {
        comma = true;
      } else {
        break;
      }
    }
    return i < in_.size() && in_[i] == '}' && digits > 0 ? i + 1 - at_ : 0;
  }

  void Repeat(size_t length) {
    const bool again = in_.substr(at_ + length, 1) == "+";
    // PCRE2 10.42 takes "{,m}" literally.
    const bool no_minimum = in_[at_ + 1] == ',';
    out_ += no_minimum ? "{0" : "{";
    out_ += in_.substr(at_ + 1, length - 1);
    at_ += length;
    if (again) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  absl::Status Escape() {
    if (at_ + 1 == in_.size()) return Refuse("\\");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
      case 'S':
        out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
        at_ += 2;
        return absl::OkStatus();
      case 'p':
      case 'P': {
        const size_t end = in_.find('}', at_);
        if (in_.substr(at_ + 2, 1) != "{" || end == std::string_view::npos)
          return Refuse(in_.substr(at_, 3));
        Copy(end + 1 - at_);
        return absl::OkStatus();
      }
      case 'u': {
        for (size_t i = at_ + 2; i < at_ + 6; ++i) {
          if (i >= in_.size() || !IsHex(in_[i])) return Refuse(in_.substr(at_, 6));
        }
        out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
        at_ += 6;
        return absl::OkStatus();
      }
      case 'x': {
        // Without braces two digits are one byte to Oniguruma, a character to PCRE2: the same only
        // in ASCII.
        if (in_.substr(at_ + 2, 1) == "{" && in_.find('}', at_) != std::string_view::npos) {
          Copy(in_.find('}', at_) + 1 - at_);
          return absl::OkStatus();
        }
        const bool ascii = at_ + 3 < in_.size() && in_[at_ + 2] >= '0' && in_[at_ + 2] <= '7' &&
                           IsHex(in_[at_ + 3]);
        if (!ascii) return Refuse(in_.substr(at_, 4));
        Copy(4);
        return absl::OkStatus();
      }
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      default:
        if (IsLetterOrDigit(c)) return Refuse(in_.substr(at_, 2));
        Copy(2);
        return absl::OkStatus();
    }
  }

  absl::Status Class() {
    Copy(1);
    if (in_.substr(at_, 1) == "^") Copy(1);
    for (bool first = true; at_ < in_.size(); first = false) {
      const char c = in_[at_];
      if (c == ']' && !first) {
        Copy(1);
        return absl::OkStatus();
      }
      // Oniguruma nests and intersects classes, PCRE2 takes these characters as they are.
      if (c == '[') return Refuse("[ inside a character class");
      if (in_.substr(at_, 2) == "&&") return Refuse("&&");
      if (c == '\\') {
        LACUNA_RETURN_IF_ERROR(Escape());
      } else {
        Copy(1);
      }
    }
    return DataError("pattern \"{}\": a character class has no end", OneLine(in_));
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;
  std::vector<size_t> groups_;
};

}  // namespace

absl::StatusOr<std::string> TranslatePattern(std::string_view oniguruma) {
  return Translator(oniguruma).Run();
}

}  // namespace lacuna
