#include "data/prepare/holdout.h"

#include <xxhash.h>

#include <charconv>

#include "core/status.h"

namespace lacuna {

absl::StatusOr<Holdout> Holdout::Parse(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return ConfigError("hold-out \"{}\": must be name=fraction or name=path", text);
  }
  Holdout holdout{.name = text.substr(0, equals), .prefix = "", .fraction = 0};
  const std::string value = text.substr(equals + 1);
  const auto [end, error] =
      std::from_chars(value.data(), value.data() + value.size(), holdout.fraction);
  if (error != std::errc() || end != value.data() + value.size()) {
    holdout.fraction = 0;
    holdout.prefix = value;
  } else if (!(holdout.fraction > 0 && holdout.fraction < 1)) {
    return ConfigError("hold-out \"{}\": the fraction must be above 0 and below 1", text);
  }
  return holdout;
}

bool Holdout::HoldsFile(std::string_view file_name) const {
  if (prefix.empty() || !file_name.starts_with(prefix)) return false;
  return file_name.size() == prefix.size() || prefix.ends_with("/") ||
         file_name[prefix.size()] == '/';
}

size_t SplitOf(std::string_view file_name, std::string_view text,
               const std::vector<Holdout>& holdouts) {
  for (size_t h = 0; h < holdouts.size(); ++h) {
    if (holdouts[h].HoldsFile(file_name)) return h + 1;
  }
  const double place = static_cast<double>(XXH3_64bits(text.data(), text.size()) >> 11) * 0x1.0p-53;
  double end = 0;
  for (size_t h = 0; h < holdouts.size(); ++h) {
    end += holdouts[h].fraction;
    if (place < end) return h + 1;
  }
  return 0;
}

}  // namespace lacuna
