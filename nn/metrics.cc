#include "nn/metrics.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace lacuna {

void Metrics::Add(const std::string& name, double sum, double weight) {
  Entry& entry = scalars_[name];
  entry.sum += sum;
  entry.weight += weight;
}

void Metrics::AddVector(const std::string& name, const std::vector<double>& values) {
  std::vector<double>& total = vectors_[name];
  if (total.empty()) total.resize(values.size(), 0.0);
  LACUNA_CHECK(total.size() == values.size(), "metric {}: {} values, had {}", name, values.size(),
               total.size());
  for (size_t i = 0; i < values.size(); ++i) total[i] += values[i];
}

void Metrics::AddLater(std::vector<Tensor> tensors, Report report) {
  const bool on_host = std::all_of(tensors.begin(), tensors.end(),
                                   [](const Tensor& tensor) { return tensor.device() == kCpu; });
  if (on_host) return report(*this, tensors);
  pending_.push_back({std::move(tensors), std::move(report)});
}

void Metrics::Collect() {
  for (Pending& pending : std::exchange(pending_, {})) {
    for (Tensor& tensor : pending.tensors) tensor = tensor.To(kCpu);
    pending.report(*this, pending.tensors);
  }
}

std::vector<double> Metrics::Flatten() const {
  std::vector<double> flat;
  for (const auto& [name, entry] : scalars_) flat.insert(flat.end(), {entry.sum, entry.weight});
  for (const auto& [name, values] : vectors_) flat.insert(flat.end(), values.begin(), values.end());
  return flat;
}

void Metrics::Unflatten(const std::vector<double>& flat) {
  size_t next = 0;
  for (auto& [name, entry] : scalars_) {
    entry.sum = flat.at(next++);
    entry.weight = flat.at(next++);
  }
  for (auto& [name, values] : vectors_) {
    for (double& value : values) value = flat.at(next++);
  }
  LACUNA_CHECK(next == flat.size(), "metrics: {} numbers for {}", flat.size(), next);
}

void Metrics::Clear() {
  scalars_.clear();
  vectors_.clear();
  pending_.clear();
}

}  // namespace lacuna
