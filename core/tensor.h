// Tensor: a shared, row-major contiguous view of a Storage. Copying a Tensor copies the view, never
// the elements.
#pragma once

#include <memory>
#include <vector>

#include "core/allocator.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"
#include "core/tensor_ref.h"

namespace lacuna {

class Tensor {
 public:
  Tensor() = default;  // undefined

  // Elements are not initialised (NaN in debug builds).
  static Tensor Empty(Shape shape, DType dtype, Device device = kCpu);
  static Tensor Zeros(Shape shape, DType dtype, Device device = kCpu);
  static Tensor EmptyLike(const Tensor& other) {
    return Empty(other.shape(), other.dtype(), other.device());
  }
  static Tensor ZerosLike(const Tensor& other) {
    return Zeros(other.shape(), other.dtype(), other.device());
  }
  // A shape and a type without elements, in the place of a value that nobody reads: its Ref, data
  // and copies are errors.
  static Tensor Meta(Shape shape, DType dtype, Device device = kCpu);
  static Tensor MetaLike(const Tensor& other) {
    return Meta(other.shape(), other.dtype(), other.device());
  }
  // A tensor on the CPU over memory that `owner` keeps.
  static Tensor Over(void* data, Shape shape, DType dtype, std::shared_ptr<void> owner);
  // Copies host values; `dtype` may narrow or widen floating values.
  template <class T>
  static Tensor FromVector(const std::vector<T>& values, Shape shape);
  static Tensor FromDoubles(const std::vector<double>& values, Shape shape, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  bool is_meta() const { return meta_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  // Size along `dim`; negative counts from the last.
  int64_t dim(int dim) const { return shape_[static_cast<size_t>(dim < 0 ? dim + rank() : dim)]; }
  int64_t numel() const { return NumElements(shape_); }
  int64_t bytes() const { return numel() * SizeOf(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device : kCpu; }

  // For reading. An undefined tensor gives an undefined ref (an optional argument left out).
  TensorRef Ref() const;
  // For writing: marks what others may have saved of this storage as changed.
  TensorRef MutableRef();

  // Host addresses; the dtype must match and the tensor must be on the CPU.
  template <class T>
  const T* data() const {
    return static_cast<const T*>(CheckedData(DTypeOf<T>::value));
  }
  template <class T>
  T* mutable_data() {
    void* address = CheckedData(DTypeOf<T>::value);
    ++storage_->version;
    return static_cast<T*>(address);
  }
  // The values on the host; of a device tensor this waits for the device.
  std::vector<double> ToDoubles() const;

  // The same elements in another shape of equal size; -1 in one place is worked out.
  Tensor Reshape(Shape shape) const;
  // Rows [begin, end) of the first dimension.
  Tensor Slice(int64_t begin, int64_t end) const;
  // `shape` elements of the flat storage behind this tensor, starting at element `offset` of this
  // view.
  Tensor View(int64_t offset, Shape shape) const;

  // These run in the order of the device's compute stream; only a copy to the host waits for it.
  Tensor Clone() const;
  Tensor To(DType dtype) const;  // of a tensor on the CPU
  // The same elements on `device`; this tensor itself where it is there already.
  Tensor To(Device device) const;
  void CopyFrom(const Tensor& source);  // same shape and dtype, any device
  void Zero();

  uint64_t version() const { return storage_ ? storage_->version : 0; }
  bool SharesStorage(const Tensor& other) const { return storage_ == other.storage_; }
  // True where no other tensor views the storage, so it may be overwritten.
  bool unique() const { return storage_.use_count() == 1; }

 private:
  void* CheckedData(DType dtype) const;

  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // in elements
  Shape shape_;
  DType dtype_ = DType::kF32;
  bool meta_ = false;
};

template <class T>
Tensor Tensor::FromVector(const std::vector<T>& values, Shape shape) {
  LACUNA_CHECK(static_cast<int64_t>(values.size()) == NumElements(shape), "{} values for shape {}",
               values.size(), ToString(shape));
  Tensor tensor = Empty(std::move(shape), DTypeOf<T>::value);
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>());
  return tensor;
}

}  // namespace lacuna
