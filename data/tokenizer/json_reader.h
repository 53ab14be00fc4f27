// Typed access to a JSON document whose errors name the file and the path of the value. Internal to
// data/.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/status.h"

namespace lacuna {

// A value and where it is; the document must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json* value, std::string place)
      : value_(value), place_(std::move(place)) {}

  const nlohmann::json& value() const { return *value_; }
  bool IsNull() const { return value_->is_null(); }
  // "tokenizer.json: model.vocab": for messages.
  const std::string& place() const { return place_; }

  // A member; null where there is none.
  JsonNode Get(const std::string& key) const {
    static const nlohmann::json null;
    const bool there = value_->is_object() && value_->contains(key);
    return {there ? &(*value_)[key] : &null, place_ + (place_.ends_with(":") ? " " : ".") + key};
  }
  JsonNode At(size_t index) const {
    return {&(*value_)[index], place_ + "[" + std::to_string(index) + "]"};
  }

  template <class... T>
  absl::Status Error(fmt::format_string<T...> format, T&&... args) const {
    // The whole document's place is "<file>:", a part's "<file>: model.merges[3]".
    // Both may quote the document.
    constexpr size_t kMostPlace = 500, kMostText = 3000;
    return DataError("{}{} {}", OneLine(place_, kMostPlace), place_.ends_with(":") ? "" : ":",
                     OneLine(fmt::format(format, std::forward<T>(args)...), kMostText));
  }
  absl::StatusOr<std::string> String() const {
    if (value_->is_string()) return value_->get<std::string>();
    return Wrong("a string");
  }
  absl::StatusOr<bool> Bool(bool if_absent) const {
    if (IsNull()) return if_absent;
    if (value_->is_boolean()) return value_->get<bool>();
    return Wrong("true or false");
  }
  // Below `limit`.
  absl::StatusOr<int32_t> Id(int64_t limit = kMaxIds) const {
    if (value_->is_number_integer() && *value_ >= 0 && *value_ < std::min(limit, kMaxIds))
      return value_->get<int32_t>();
    return Wrong("a token id, 0 to " + std::to_string(std::min(limit, kMaxIds) - 1));
  }
  absl::Status Wrong(const std::string& expected) const {
    std::string found =
        IsNull() ? "nothing"
                 : value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (found.size() > 60) found = found.substr(0, 57) + "...";
    return Error("found {}, expected {}", found, expected);
  }

 private:
  static constexpr int64_t kMaxIds = int64_t{1} << 24;  // no vocabulary comes near

  const nlohmann::json* value_;
  std::string place_;
};

}  // namespace lacuna
