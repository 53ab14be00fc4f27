// The documents of a micro-batch, one after the other in N rows. Every attention and every NSA grid
// restarts at a document.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/length_classes.h"
#include "core/tensor.h"

namespace lacuna {

class PackedSequences {
 public:
  // cu_seqlens: D + 1 non-decreasing row numbers, first 0, last N; document i is rows [cu[i], cu[i
  // + 1]).
  explicit PackedSequences(std::vector<int32_t> cu_seqlens);
  // One document of `tokens` rows.
  static PackedSequences Single(int64_t tokens);

  int64_t num_rows() const { return host_cu_seqlens_.back(); }
  int64_t num_documents() const { return static_cast<int64_t>(host_cu_seqlens_.size()) - 1; }
  int64_t max_length() const { return max_length_; }
  const LengthClassCounts& length_classes() const { return length_classes_; }
  const std::vector<int32_t>& host_cu_seqlens() const { return host_cu_seqlens_; }
  const Tensor& cu_seqlens() const { return cu_seqlens_; }  // [D + 1] i32
  const Tensor& positions() const { return positions_; }    // [N] i32, restart at every document
  Device device() const { return cu_seqlens_.device(); }
  // The same documents with both tensors on `device`.
  PackedSequences To(Device device) const;

  // What modules derive from the documents alone (ranges of keys, NSA's grids): made by the first
  // caller with this key, shared by all layers that ask with it later. Not for several threads.
  template <class T>
  std::shared_ptr<const T> Derived(const std::string& key, const std::function<T()>& make) const {
    std::shared_ptr<const void>& entry = (*derived_)[key];
    if (entry == nullptr) entry = std::make_shared<const T>(make());
    return std::static_pointer_cast<const T>(entry);
  }

 private:
  using DerivedMap = std::map<std::string, std::shared_ptr<const void>>;

  std::vector<int32_t> host_cu_seqlens_;
  int64_t max_length_ = 0;
  LengthClassCounts length_classes_;
  Tensor cu_seqlens_;
  Tensor positions_;
  std::shared_ptr<DerivedMap> derived_ = std::make_shared<DerivedMap>();
};

}  // namespace lacuna
