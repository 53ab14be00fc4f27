#include "core/tensor.h"

#include <cstring>
#include <utility>

#include "core/dispatch.h"
#include "core/stream.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/memory.h"
#endif

namespace lacuna {
namespace {

// bytes > 0; on the compute stream of the device that has a part in it.
void CopyBytes(const TensorRef& target, const TensorRef& source, int64_t bytes) {
  const bool from_host = source.device == kCpu, to_host = target.device == kCpu;
  if (from_host && to_host) {
    std::memcpy(target.data, source.data, static_cast<size_t>(bytes));
    return;
  }
#ifdef LACUNA_WITH_CUDA
  const Stream stream = ComputeStream(from_host ? target.device : source.device);
  if (from_host) {
    cuda::CopyToDevice(target.data, source.data, bytes, stream);
  } else if (to_host) {
    cuda::CopyToHost(target.data, source.data, bytes, stream);
  } else {
    LACUNA_CHECK(source.device == target.device, "copy from CUDA device {} to {}",
                 source.device.index, target.device.index);
    cuda::CopyOnDevice(target.data, source.data, bytes, stream);
  }
#endif
}

void CheckShape(const Shape& shape) {
  LACUNA_CHECK(!shape.empty() && shape.size() <= kMaxRank,
               "a tensor has 1 to {} dimensions, asked for {}", kMaxRank, ToString(shape));
  for (const int64_t d : shape) LACUNA_CHECK(d >= 0, "negative size in shape {}", ToString(shape));
}

}  // namespace

Tensor Tensor::Empty(Shape shape, DType dtype, Device device) {
  CheckShape(shape);
  Tensor tensor;
  tensor.storage_ = std::make_shared<Storage>(NumElements(shape) * SizeOf(dtype), device);
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::Meta(Shape shape, DType dtype, Device device) {
  CheckShape(shape);
  Tensor tensor;
  tensor.storage_ = std::make_shared<Storage>(0, device);
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.meta_ = true;
  return tensor;
}

Tensor Tensor::Zeros(Shape shape, DType dtype, Device device) {
  Tensor tensor = Empty(std::move(shape), dtype, device);
  tensor.Zero();
  return tensor;
}

Tensor Tensor::Over(void* data, Shape shape, DType dtype, std::shared_ptr<void> owner) {
  LACUNA_CHECK(owner != nullptr, "a tensor over memory of nobody");
  Tensor tensor;
  tensor.storage_ =
      std::make_shared<Storage>(data, NumElements(shape) * SizeOf(dtype), std::move(owner));
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::FromDoubles(const std::vector<double>& values, Shape shape, DType dtype) {
  return FromVector(values, std::move(shape)).To(dtype);
}

TensorRef Tensor::Ref() const {
  TensorRef ref;
  if (!defined()) return ref;
  LACUNA_CHECK(!is_meta(), "tensor {} has no elements: nobody was to read it", ToString(shape_));
  ref.data = static_cast<char*>(storage_->data) + offset_ * SizeOf(dtype_);
  ref.dtype = dtype_;
  ref.device = storage_->device;
  ref.rank = static_cast<int8_t>(rank());
  for (int i = 0; i < rank(); ++i) ref.shape[i] = shape_[static_cast<size_t>(i)];
  return ref;
}

TensorRef Tensor::MutableRef() {
  if (defined()) ++storage_->version;
  return Ref();
}

void* Tensor::CheckedData(DType dtype) const {
  LACUNA_CHECK(defined(), "tensor is undefined");
  LACUNA_CHECK(!is_meta(), "tensor {} has no elements: nobody was to read it", ToString(shape_));
  LACUNA_CHECK(dtype_ == dtype, "tensor {} holds {}, read as {}", ToString(shape_), NameOf(dtype_),
               NameOf(dtype));
  LACUNA_CHECK(storage_->device == kCpu, "tensor {} is not on the CPU", ToString(shape_));
  return static_cast<char*>(storage_->data) + offset_ * SizeOf(dtype_);
}

std::vector<double> Tensor::ToDoubles() const {
  if (device() != kCpu) return To(kCpu).ToDoubles();
  std::vector<double> values(static_cast<size_t>(numel()));
  DispatchAny(dtype_, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* source = data<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(Widen(source[i]));
  });
  return values;
}

Tensor Tensor::Reshape(Shape shape) const {
  int64_t known = 1;
  int64_t* unknown = nullptr;
  for (int64_t& d : shape) {
    if (d == -1) {
      LACUNA_CHECK(unknown == nullptr, "reshape: two -1 in {}", ToString(shape));
      unknown = &d;
    } else {
      known *= d;
    }
  }
  if (unknown != nullptr) *unknown = known == 0 ? 0 : numel() / known;
  LACUNA_CHECK(NumElements(shape) == numel(), "reshape: {} has {} elements, {} has not",
               ToString(shape_), numel(), ToString(shape));
  Tensor view = *this;
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::Slice(int64_t begin, int64_t end) const {
  LACUNA_CHECK(0 <= begin && begin <= end && end <= dim(0), "slice [{}, {}) of {}", begin, end,
               ToString(shape_));
  Shape shape = shape_;
  shape[0] = end - begin;
  const int64_t row = dim(0) == 0 ? 0 : numel() / dim(0);
  return View(begin * row, std::move(shape));
}

Tensor Tensor::View(int64_t offset, Shape shape) const {
  LACUNA_CHECK(offset >= 0 && offset + NumElements(shape) <= numel(),
               "view of {} elements at {} in {}", NumElements(shape), offset, ToString(shape_));
  Tensor view = *this;
  view.offset_ += offset;
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::Clone() const {
  Tensor copy = EmptyLike(*this);
  copy.CopyFrom(*this);
  return copy;
}

Tensor Tensor::To(DType dtype) const {
  if (dtype == dtype_) return Clone();
  LACUNA_CHECK(device() == kCpu, "conversion of a device tensor: use ops::Cast");
  Tensor result = Empty(shape_, dtype);
  DispatchAny(dtype_, [&](auto from) {
    using From = typename decltype(from)::type;
    DispatchAny(dtype, [&](auto to) {
      using To = typename decltype(to)::type;
      const From* source = data<From>();
      To* target = result.mutable_data<To>();
      for (int64_t i = 0; i < numel(); ++i) target[i] = Narrow<To>(Widen(source[i]));
    });
  });
  return result;
}

Tensor Tensor::To(Device device) const {
  if (device == this->device()) return *this;
  Tensor result = Empty(shape_, dtype_, device);
  result.CopyFrom(*this);
  return result;
}

void Tensor::CopyFrom(const Tensor& source) {
  LACUNA_CHECK(shape_ == source.shape_ && dtype_ == source.dtype_, "copy of {} {} into {} {}",
               ToString(source.shape_), NameOf(source.dtype_), ToString(shape_), NameOf(dtype_));
  if (bytes() > 0) CopyBytes(MutableRef(), source.Ref(), bytes());
}

void Tensor::Zero() {
  if (bytes() == 0) return;
  const TensorRef ref = MutableRef();
#ifdef LACUNA_WITH_CUDA
  if (ref.device != kCpu) return cuda::Zero(ref.data, bytes(), ComputeStream(ref.device));
#endif
  std::memset(ref.data, 0, static_cast<size_t>(bytes()));
}

}  // namespace lacuna
