#include "recipes/export/verify.h"

#include <algorithm>
#include <cmath>

#include "core/status.h"

namespace lacuna {
namespace {

constexpr int64_t kRowsAtOnce = 64;

double LogSumExp(const double* x, int64_t n) {
  const double top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

double Divergence(const double* a, const double* b, int64_t n) {
  const double lse_a = LogSumExp(a, n), lse_b = LogSumExp(b, n);
  double kl = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = a[i] - lse_a, log_q = b[i] - lse_b;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return std::max(kl, 0.0);
}

// Rows of the reference that predict the continuation's tokens, and how many agree.
absl::StatusOr<double> CheckGreedy(const ReferenceModel& reference, BuiltModel& built,
                                   const Recipe& recipe, const Probe& probe, double tie,
                                   Verification* v) {
  int64_t agreed = 0, all = 0;
  for (const std::vector<int32_t>& prompt : probe.prompts) {
    const std::vector<int32_t> next = ContinueGreedily(built, prompt);
    std::vector<int32_t> ids = prompt;
    ids.insert(ids.end(), next.begin(), next.end());
    const ModelTrace trained = TraceModel(built, recipe, ids);
    const ReferenceTrace trace = reference.Run(ids, &trained.layers, tie);
    const auto first = static_cast<int64_t>(prompt.size()) - 1;
    const auto count = static_cast<int64_t>(next.size());
    const Doubles logits = reference.Logits(trace, first, first + count);
    const int64_t vocabulary = reference.config().vocabulary;
    for (int64_t i = 0; i < count; ++i) {
      const double* row = logits.data() + i * vocabulary;
      agreed += std::max_element(row, row + vocabulary) - row == next[static_cast<size_t>(i)];
      ++all;
    }
    v->continuations.push_back(next);
    v->continuation_layers.push_back(trained.layers);
  }
  return static_cast<double>(agreed) / static_cast<double>(std::max<int64_t>(all, 1));
}

absl::Status CheckRotary(const ReferenceConfig& config, const RopeTable& rope) {
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); };
  if (!near(config.attention_factor, rope.attention_factor()))
    return CheckpointError("config.json resolves to the attention factor {}, the model has {}",
                           config.attention_factor, rope.attention_factor());
  const std::vector<double>& trained = rope.inverse_frequencies();
  if (config.inverse_frequencies.size() != trained.size())
    return CheckpointError("config.json resolves to {} rotary frequencies, the model has {}",
                           config.inverse_frequencies.size(), trained.size());
  for (size_t i = 0; i < trained.size(); ++i) {
    if (!near(config.inverse_frequencies[i], trained[i]))
      return CheckpointError("config.json resolves to {} as rotary frequency {}, the model has {}",
                             config.inverse_frequencies[i], i, trained[i]);
  }
  return absl::OkStatus();
}

// Everything that differs, as one line.
absl::Status Judge(const Verification& v) {
  std::vector<std::string> differences;
  if (!(v.logits.max_difference <= v.limit)) {
    differences.push_back(fmt::format("logits differ by {:.3g} at token {} (allowed {:.3g})",
                                      v.logits.max_difference, v.logits.at_token, v.limit));
  }
  for (size_t i = 0; i < v.layers.size(); ++i) {
    for (const auto& [what, agreement] :
         {std::pair("selected blocks", &v.layers[i].blocks), {"experts", &v.layers[i].experts}}) {
      if (agreement->unexplained > 0) {
        differences.push_back(fmt::format("layer {}: {} of {} choices of {} differ, for example {}",
                                          i, agreement->unexplained, agreement->compared, what,
                                          agreement->example));
      }
    }
  }
  if (differences.empty()) return absl::OkStatus();
  const size_t count = differences.size();
  differences.resize(std::min<size_t>(count, 4));
  return CheckpointError("{}{}", fmt::join(differences, "; "),
                         count > 4 ? fmt::format("; and {} more", count - 4) : "");
}

}  // namespace

LogitRows RowsOf(const Tensor& logits) {
  return [logits](int64_t begin, int64_t count) {
    return logits.Slice(begin, begin + count).ToDoubles();
  };
}

LogitAgreement CompareLogits(int64_t tokens, int64_t vocabulary, const LogitRows& first,
                             const LogitRows& second) {
  LogitAgreement result;
  int64_t same_first = 0;
  for (int64_t begin = 0; begin < tokens; begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, tokens - begin);
    const Doubles a = first(begin, count), b = second(begin, count);
    for (int64_t r = 0; r < count; ++r) {
      const double *x = a.data() + r * vocabulary, *y = b.data() + r * vocabulary;
      for (int64_t i = 0; i < vocabulary; ++i) {
        const double found = std::abs(x[i] - y[i]);
        // NaN is the largest difference of all.
        const double difference = std::isnan(found) ? HUGE_VAL : found;
        result.largest = std::max(result.largest, std::abs(x[i]));
        if (difference <= result.max_difference) continue;
        result.max_difference = difference;
        result.at_token = begin + r;
      }
      const double kl = Divergence(x, y, vocabulary);
      result.kl_mean += kl / static_cast<double>(tokens);
      result.kl_max = std::max(result.kl_max, kl);
      same_first +=
          std::max_element(x, x + vocabulary) - x == std::max_element(y, y + vocabulary) - y;
    }
  }
  result.top1 = static_cast<double>(same_first) / static_cast<double>(tokens);
  return result;
}

Tolerance ToleranceOf(DType compute) {
  if (compute == DType::kF64) return {.logits = 1e-9, .tie = 1e-9};
  return {.logits = 1e-4, .tie = 1e-4};
}

absl::StatusOr<Verification> VerifyExport(const std::string& folder, BuiltModel& built,
                                          const Recipe& recipe, const Probe& probe,
                                          const ModelTrace& trained) {
  LACUNA_ASSIGN_OR_RETURN(const auto reference, ReferenceModel::Open(folder));
  const ReferenceConfig& config = reference->config();
  LACUNA_RETURN_IF_ERROR(CheckRotary(config, *built.rope));
  const Tolerance tolerance = ToleranceOf(trained.logits.dtype());
  const ReferenceTrace trace = reference->Run(probe.ids, &trained.layers, tolerance.tie);
  Verification v;
  v.logits = CompareLogits(
      static_cast<int64_t>(probe.ids.size()), config.vocabulary, RowsOf(trained.logits),
      [&](int64_t begin, int64_t count) { return reference->Logits(trace, begin, begin + count); });
  v.limit = tolerance.logits * std::max(1.0, v.logits.largest);
  v.layers = trace.layers;
  v.yarn_factor = config.yarn_factor;
  v.attention_factor = config.attention_factor;
  v.inverse_frequencies = config.inverse_frequencies;
  v.num_tensors = reference->num_tensors();
  LACUNA_RETURN_IF_ERROR(Judge(v));
  LACUNA_ASSIGN_OR_RETURN(v.greedy,
                          CheckGreedy(*reference, built, recipe, probe, tolerance.tie, &v));
  return v;
}

}  // namespace lacuna
