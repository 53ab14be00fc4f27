#include "distributed/rank_order_sum.h"

#include <type_traits>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace lacuna {
namespace {

template <class Wide, class T>
Wide Widened(T value) {
  return static_cast<Wide>(value);
}
template <class Wide>
Wide Widened(BFloat16 value) {
  return static_cast<float>(value);
}
template <class T, class Wide>
T Narrowed(Wide value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class T, class Wide>
void Sum(const std::vector<const T*>& parts, int64_t count, T* target) {
  ParallelForChunks(count, 16384, static_cast<int64_t>(parts.size()),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        Wide total = Widened<Wide>(parts[0][i]);
                        for (size_t r = 1; r < parts.size(); ++r)
                          total += Widened<Wide>(parts[r][i]);
                        target[i] = Narrowed<T>(total);
                      }
                    });
}

template <class T, class Wide>
void SumParts(int ranks, int64_t count, const std::function<const char*(int)>& part, char* target) {
  std::vector<const T*> parts;
  for (int r = 0; r < ranks; ++r) parts.push_back(reinterpret_cast<const T*>(part(r)));
  Sum<T, Wide>(parts, count, reinterpret_cast<T*>(target));
}

}  // namespace

void SumInRankOrder(DType dtype, int ranks, int64_t count,
                    const std::function<const char*(int)>& part, char* target) {
  switch (dtype) {
    case DType::kF32:
      return SumParts<float, double>(ranks, count, part, target);
    case DType::kF64:
      return SumParts<double, double>(ranks, count, part, target);
    case DType::kBF16:
      return SumParts<BFloat16, double>(ranks, count, part, target);
    // Unsigned, because signed sums that wrap round are undefined.
    case DType::kI32:
      return SumParts<uint32_t, uint32_t>(ranks, count, part, target);
    case DType::kI64:
      return SumParts<uint64_t, uint64_t>(ranks, count, part, target);
    default:
      LACUNA_CHECK(false, "sum over ranks: no sum of {}", NameOf(dtype));
  }
}

}  // namespace lacuna
