#include "nn/metrics.h"

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
}

}  // namespace lacuna
