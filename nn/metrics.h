// Metrics of a step: named sums with weights, merged over layers, micro-batches and ranks. mean =
// sum / weight.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace lacuna {

class Metrics {
 public:
  struct Entry {
    double sum = 0;
    double weight = 0;
    double mean() const { return weight == 0 ? 0 : sum / weight; }
  };

  // Scalars, e.g. Add("layers.3.attention.gate_cmp", sum over N*H gates, N*H).
  void Add(const std::string& name, double sum, double weight);
  // Vectors that add up element by element, e.g. tokens per expert of a layer.
  void AddVector(const std::string& name, const std::vector<double>& values);

  // report(*this, the tensors on the host): at once where they are on the CPU, else in Collect, so
  // that a forward pass never waits for a device.
  using Report = std::function<void(Metrics&, const std::vector<Tensor>&)>;
  void AddLater(std::vector<Tensor> tensors, Report report);
  // Runs the reports that are still to come, in order; waits for the device if there are any.
  void Collect();

  const std::map<std::string, Entry>& scalars() const { return scalars_; }
  const std::map<std::string, std::vector<double>>& vectors() const { return vectors_; }

  // All numbers in the order of the names, to be summed over ranks (every rank has the same names)
  // and put back.
  std::vector<double> Flatten() const;
  void Unflatten(const std::vector<double>& values);
  void Clear();

 private:
  std::map<std::string, Entry> scalars_;
  std::map<std::string, std::vector<double>> vectors_;
  struct Pending {
    std::vector<Tensor> tensors;
    Report report;
  };
  std::vector<Pending> pending_;
};

}  // namespace lacuna
