#include "nsa/nsa_config.h"

#include <fmt/format.h>

namespace lacuna {
namespace {

constexpr int64_t kMaxBlock = 1 << 16;
constexpr int64_t kMaxSelected = 1 << 16;
constexpr int64_t kMaxWindow = 1 << 24;
constexpr int64_t kMaxPhiHidden = 64;

}  // namespace

void NsaConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  const auto require = [&](bool holds, const char* key, const auto& value,
                           const std::string& rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  const auto require_in = [&](const char* key, int64_t value, int64_t least, int64_t most) {
    require(value >= least && value <= most, key, value, fmt::format("in {}..{}", least, most));
  };
  require_in("block", block, 1, kMaxBlock);
  require_in("stride", stride, 1, kMaxBlock);
  require_in("select_block", select_block, 1, kMaxBlock);
  if (stride >= 1) {
    const std::string multiple = fmt::format("a multiple of {}.stride = {}", section, stride);
    require(block % stride == 0, "block", block, multiple);
    require(select_block % stride == 0, "select_block", select_block, multiple);
  }
  require(select_block >= block, "select_block", select_block,
          fmt::format("at least {}.block = {}", section, block));
  require_in("num_init", num_init, 0, kMaxSelected);
  require_in("num_local", num_local, 1, kMaxSelected);  // a query always reads its own block
  require_in("num_selected", num_selected, 1, kMaxSelected);
  if (num_init <= kMaxSelected && num_local <= kMaxSelected) {  // else the sum may overflow
    require(
        num_selected >= num_init + num_local, "num_selected", num_selected,
        fmt::format("at least {0}.num_init + {0}.num_local = {1}", section, num_init + num_local));
  }
  require_in("window", window, 1, kMaxWindow);
  require_in("phi_hidden", phi_hidden, 1, kMaxPhiHidden);
}

}  // namespace lacuna
