// MakeCudaStagedCopies.
#include <algorithm>
#include <bit>
#include <iterator>
#include <map>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/event.h"
#include "core/stream.h"
#include "distributed/staged_copies.h"

namespace lacuna {
namespace {

class CudaStagedCopies : public StagedCopies {
 public:
  explicit CudaStagedCopies(Device device) : compute_(ComputeStream(device)) {
    LACUNA_CUDA_CHECK(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking));
  }
  ~CudaStagedCopies() override { static_cast<void>(cudaStreamDestroy(copies_)); }

  bool Takes(const Tensor& tensor) const override { return tensor.device() == compute_.device; }
  Tensor Buffer(const Shape& shape, DType dtype) override;
  Done Download(const Tensor& from, Tensor to) override;
  void Upload(const Tensor& from, Tensor to) override;

 private:
  // Pinned memory, freed with the last tensor over it.
  struct Block {
    explicit Block(int64_t bytes) {
      LACUNA_CUDA_CHECK(cudaMallocHost(&data, static_cast<size_t>(bytes)));
    }
    ~Block() { static_cast<void>(cudaFreeHost(data)); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    void* data = nullptr;
    cuda::Event used;  // by the last copy into or out of it
  };

  Block& BlockOf(const Tensor& buffer) {
    const auto after = blocks_by_address_.upper_bound(buffer.Ref().data);
    return *std::prev(after)->second;
  }
  void Copy(const Tensor& from, Tensor& to, cudaMemcpyKind kind, Block& block) {
    if (from.bytes() > 0) {
      LACUNA_CUDA_CHECK(cudaMemcpyAsync(to.MutableRef().data, from.Ref().data,
                                        static_cast<size_t>(from.bytes()), kind, copies_));
    }
    block.used.Record(copies_);
  }

  Stream compute_;
  cudaStream_t copies_ = nullptr;
  // By size, a power of two. A block is free where nobody else holds it.
  std::map<uint64_t, std::vector<std::shared_ptr<Block>>> blocks_;
  std::map<const void*, Block*> blocks_by_address_;
};

Tensor CudaStagedCopies::Buffer(const Shape& shape, DType dtype) {
  const auto bytes = static_cast<uint64_t>(NumElements(shape) * SizeOf(dtype));
  const uint64_t size = std::bit_ceil(std::max<uint64_t>(bytes, 4096));
  auto& blocks = blocks_[size];
  for (const std::shared_ptr<Block>& block : blocks) {
    if (block.use_count() == 1 && block->used.Done())
      return Tensor::Over(block->data, shape, dtype, block);
  }
  blocks.push_back(std::make_shared<Block>(static_cast<int64_t>(size)));
  blocks_by_address_[blocks.back()->data] = blocks.back().get();
  return Tensor::Over(blocks.back()->data, shape, dtype, blocks.back());
}

StagedCopies::Done CudaStagedCopies::Download(const Tensor& from, Tensor to) {
  cuda::Event ready;
  ready.Record(static_cast<cudaStream_t>(compute_.handle));
  ready.MakeWait(copies_);
  Block& block = BlockOf(to);
  Copy(from, to, cudaMemcpyDeviceToHost, block);
  return [event = block.used] { return event.Done(); };
}

void CudaStagedCopies::Upload(const Tensor& from, Tensor to) {
  Block& block = BlockOf(from);
  Copy(from, to, cudaMemcpyHostToDevice, block);
  block.used.MakeWait(static_cast<cudaStream_t>(compute_.handle));
}

}  // namespace

std::shared_ptr<StagedCopies> MakeCudaStagedCopies(Device device) {
  return std::make_shared<CudaStagedCopies>(device);
}

}  // namespace lacuna
