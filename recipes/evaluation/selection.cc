#include "recipes/evaluation/selection.h"

#include "nsa/nsa_attention.h"

namespace lacuna {
namespace {

NsaAttention* SparseAttention(LanguageModel& model, int64_t layer) {
  return dynamic_cast<NsaAttention*>(&model.block(layer).attention());
}

// blocks [1, G, n], -1 behind the last of a list.
std::vector<std::vector<int32_t>> ListsOf(const Tensor& blocks) {
  std::vector<std::vector<int32_t>> lists(static_cast<size_t>(blocks.dim(1)));
  const int32_t* block = blocks.data<int32_t>();
  for (auto& list : lists) {
    for (int64_t i = 0; i < blocks.dim(2); ++i, ++block) {
      if (*block >= 0) list.push_back(*block);
    }
  }
  return lists;
}

}  // namespace

SelectionRecorder::SelectionRecorder(LanguageModel& model) : model_(model) {
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    NsaAttention* attention = SparseAttention(model, layer);
    if (attention == nullptr) continue;
    const size_t index = layers_.size();
    layers_.push_back(layer);
    attention->set_selection_observer(
        [this, index](size_t, const Tensor& blocks) { lists_[index] = ListsOf(blocks); });
  }
  lists_.resize(layers_.size());
}

SelectionRecorder::~SelectionRecorder() {
  for (const int64_t layer : layers_) SparseAttention(model_, layer)->set_selection_observer({});
}

}  // namespace lacuna
