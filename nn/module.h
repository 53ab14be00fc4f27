// Module: owns parameters and knows its children. Modules know nothing of how their parameters are
// stored or sharded.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"

namespace lacuna {

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Every parameter of the tree, in order of use in a forward pass; registration is in that order,
  // too.
  void ForEachParameter(const std::function<void(Parameter&)>& visit);
  // State that is not trained by gradients but belongs to the model (a router's correction bias):
  // saved, exported, never decayed.
  // f32 (f64 in an f64 model), allocated by its module.
  void ForEachBuffer(const std::function<void(const std::string& name, Tensor& buffer)>& visit);
  // Gives the whole tree its full names ("layers.3.attention.q_proj.weight"); called once on the
  // root.
  void SetName(const std::string& name);
  const std::string& name() const { return name_; }

 protected:
  // The local name becomes "<module>.<local>" in SetName. References stay valid for the module's
  // life.
  Parameter& AddParameter(const std::string& local_name, Shape shape, Init init,
                          bool weight_decay = true);
  void AddBuffer(const std::string& local_name, Tensor* buffer);
  void AddModule(const std::string& local_name, Module* child);

 private:
  struct Item {  // in order of registration: a parameter, a buffer or a child
    std::string local_name;
    Parameter* parameter = nullptr;
    Tensor* buffer = nullptr;
    Module* child = nullptr;
  };

  std::string name_;
  std::deque<Parameter> parameters_;
  std::vector<Item> items_;
};

}  // namespace lacuna
