#include "core/cuda/wgmma.cuh"

#include <map>
#include <utility>

namespace lacuna::cuda {
namespace {

// By block and thread. A block's are empty when it ends: kernels wait for their products.
std::map<std::pair<unsigned, unsigned>, Products> all_products;

float Low(uint32_t pair) {
  return std::bit_cast<float>(pair << 16);
}
float High(uint32_t pair) {
  return std::bit_cast<float>(pair & 0xFFFF0000u);
}

}  // namespace

Products& ProductsOf(unsigned thread) {
  return all_products[{blockIdx.x, thread}];
}
Products& MyProducts() {
  return ProductsOf(threadIdx.x);
}

void FinishProducts(int pending) {
  emulation::WaitAtRandom();
  emulation::SyncWarpgroup();
  Products& mine = MyProducts();
  const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread % 128 / 32;
  const int g = static_cast<int>(lane / 4), t = static_cast<int>(lane % 4);
  const Products* quad[4];  // of the lanes that hold the same rows
  for (unsigned i = 0; i < 4; ++i) quad[i] = &ProductsOf(thread / 4 * 4 + i);
  size_t done = 0;
  for (; done < mine.started.size(); ++done) {
    const Product& p = mine.started[done];
    if (p.group >= mine.committed - pending) break;
    float a[2][16];  // rows g and g + 8 of the warp's 16
    for (int k = 0; k < 16; ++k) {
      for (int r = 0; r < 2; ++r) {
        if (p.a_in_registers) {
          const uint32_t pair = quad[k % 8 / 2]->started[done].registers[k / 8 * 2 + r];
          a[r][k] = k % 2 == 0 ? Low(pair) : High(pair);
        } else {
          a[r][k] = OperandElement(p.a, p.a_contiguous, static_cast<int>(warp) * 16 + g + 8 * r, k);
        }
      }
    }
    for (int column = 0; column < p.columns / 4; ++column) {
      const int j = column / 2, e = column % 2, n = 8 * j + 2 * t + e;
      float* const sums[2] = {p.sums + 4 * j + e, p.sums + 4 * j + 2 + e};
      for (int r = 0; r < 2; ++r) {
        float sum = p.adds ? *sums[r] : 0;
        for (int k = 0; k < 16; ++k) sum += a[r][k] * OperandElement(p.b, p.b_contiguous, n, k);
        *sums[r] = sum;
      }
    }
  }
  emulation::SyncWarpgroup();  // nobody's registers are read any more
  mine.started.erase(mine.started.begin(),
                     mine.started.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace lacuna::cuda
