// The blocks that the NSA layers of a model select at decode steps, seen from outside.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/language_model.h"

namespace lacuna {

class SelectionRecorder {
 public:
  // Watches the decode steps of a model, one sequence at a time, while it lives.
  explicit SelectionRecorder(LanguageModel& model);
  SelectionRecorder(const SelectionRecorder&) = delete;
  ~SelectionRecorder();

  // Of the layers with sparse attention, in order; empty for a model without.
  const std::vector<int64_t>& layers() const { return layers_; }
  // Block numbers that the last step selected, by [index in layers()][group].
  const std::vector<std::vector<std::vector<int32_t>>>& lists() const { return lists_; }

 private:
  LanguageModel& model_;
  std::vector<int64_t> layers_;
  std::vector<std::vector<std::vector<int32_t>>> lists_;
};

}  // namespace lacuna
