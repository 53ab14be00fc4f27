#include "recipes/plan/yarn.h"

#include <fmt/format.h>

#include "recipes/model_builder.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

RopeTable PlainTable(ModelConfig model) {
  model.yarn.factor = 1;
  return RopeTable(RopeSpecOf(model), DType::kF64);
}

}  // namespace

std::string YarnSummary(const ModelConfig& model) {
  const double factor = model.yarn.factor;
  if (factor <= 1) return "";
  const RopeTable table(RopeSpecOf(model), DType::kF64), plain = PlainTable(model);
  int kept = 0, divided = 0;
  const size_t total = table.inverse_frequencies().size();
  for (size_t i = 0; i < total; ++i) {
    const double ratio = plain.inverse_frequencies()[i] / table.inverse_frequencies()[i];
    kept += ratio < 1 + 1e-12;
    divided += ratio > factor * (1 - 1e-12);
  }
  const auto context =
      static_cast<int64_t>(factor * static_cast<double>(model.yarn.original_length));
  return fmt::format(
      "YaRN factor {:g} from {} to {} tokens: cos and sin times {:.6g}; of {} frequencies {} are "
      "kept, {} blended, {} divided by {:g}",
      factor, FormatCount(model.yarn.original_length), FormatCount(context),
      table.attention_factor(), total, kept, static_cast<int>(total) - kept - divided, divided,
      factor);
}

std::string FrequencyTable(const ModelConfig& model) {
  const RopeTable table(RopeSpecOf(model), DType::kF64), plain = PlainTable(model);
  std::string text;
  for (size_t i = 0; i < table.inverse_frequencies().size(); ++i) {
    const double before = plain.inverse_frequencies()[i], now = table.inverse_frequencies()[i];
    text += fmt::format("  dims {:>3} and {:>3}   {:.9e}   {:.9e}   1/{:.3f}\n", i,
                        i + table.inverse_frequencies().size(), before, now, before / now);
  }
  return text;
}

}  // namespace lacuna
