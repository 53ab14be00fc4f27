#include "nn/model_config.h"

#include <fmt/format.h>

#include <cmath>

namespace lacuna {
namespace {

// Bounds far beyond any model, so that no product of sizes overflows 64 bits.
constexpr int64_t kMaxLayers = 1 << 10;
constexpr int64_t kMaxWidth = 1 << 17;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxDenseWidth = 1 << 20;
constexpr int64_t kMaxVocabulary = INT32_MAX;  // token ids are i32

}  // namespace

void ModelConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  const auto require = [&](bool holds, const char* key, const auto& value,
                           const std::string& rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  const auto require_in = [&](const char* key, int64_t value, int64_t least, int64_t most) {
    require(value >= least && value <= most, key, value, fmt::format("in {}..{}", least, most));
  };
  const auto positive = [](double x) { return std::isfinite(x) && x > 0; };
  require_in("num_layers", num_layers, 1, kMaxLayers);
  require(num_dense_layers >= 0 && num_dense_layers <= num_layers, "num_dense_layers",
          num_dense_layers, fmt::format("in 0..{}.num_layers = {}", section, num_layers));
  require_in("width", width, 1, kMaxWidth);
  require_in("vocab_size", vocab_size, 2, kMaxVocabulary);
  require_in("num_heads", num_heads, 1, kMaxHeads);
  require_in("num_groups", num_groups, 1, kMaxHeads);
  require(num_groups < 1 || num_heads % num_groups == 0, "num_heads", num_heads,
          fmt::format("a multiple of {}.num_groups = {}", section, num_groups));
  require_in("head_dim_qk", head_dim_qk, 1, kMaxHeadDim);
  require_in("head_dim_v", head_dim_v, 1, kMaxHeadDim);
  require(rotary_dims >= 2 && rotary_dims % 2 == 0 && rotary_dims <= head_dim_qk, "rotary_dims",
          rotary_dims, fmt::format("even and in 2..{}.head_dim_qk = {}", section, head_dim_qk));
  require(std::isfinite(rope_theta) && rope_theta > 1, "rope_theta", rope_theta, "above 1");
  require(std::isfinite(yarn.factor) && yarn.factor >= 1, "yarn.factor", yarn.factor, "at least 1");
  require(yarn.original_length >= 1, "yarn.original_length", yarn.original_length, "at least 1");
  require(positive(yarn.beta_slow), "yarn.beta_slow", yarn.beta_slow, "above 0");
  require(std::isfinite(yarn.beta_fast) && yarn.beta_fast > yarn.beta_slow, "yarn.beta_fast",
          yarn.beta_fast, fmt::format("above {}.yarn.beta_slow = {}", section, yarn.beta_slow));
  require_in("dense_width", dense_width, 1, kMaxDenseWidth);
  require(positive(norm_eps), "norm_eps", norm_eps, "above 0");
  require(positive(init_std), "init_std", init_std, "above 0");
}

}  // namespace lacuna
