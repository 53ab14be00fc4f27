#include "nn/module.h"

namespace lacuna {

void Module::ForEachParameter(const std::function<void(Parameter&)>& visit) {
  for (const Item& item : items_) {
    if (item.parameter != nullptr) visit(*item.parameter);
    if (item.child != nullptr) item.child->ForEachParameter(visit);
  }
}

void Module::ForEachBuffer(const std::function<void(const std::string&, Tensor&)>& visit) {
  for (const Item& item : items_) {
    if (item.buffer != nullptr)
      visit(name_.empty() ? item.local_name : name_ + "." + item.local_name, *item.buffer);
    if (item.child != nullptr) item.child->ForEachBuffer(visit);
  }
}

void Module::SetName(const std::string& name) {
  name_ = name;
  for (const Item& item : items_) {
    const std::string full = name.empty() ? item.local_name : name + "." + item.local_name;
    if (item.parameter != nullptr) item.parameter->name = full;
    if (item.child != nullptr) item.child->SetName(full);
  }
}

Parameter& Module::AddParameter(const std::string& local_name, Shape shape, Init init,
                                bool weight_decay) {
  Parameter& parameter = parameters_.emplace_back();
  parameter.name = local_name;
  parameter.shape = std::move(shape);
  parameter.init = init;
  parameter.weight_decay = weight_decay;
  items_.push_back({local_name, &parameter, nullptr, nullptr});
  return parameter;
}

void Module::AddBuffer(const std::string& local_name, Tensor* buffer) {
  items_.push_back({local_name, nullptr, buffer, nullptr});
}

void Module::AddModule(const std::string& local_name, Module* child) {
  items_.push_back({local_name, nullptr, nullptr, child});
}

}  // namespace lacuna
