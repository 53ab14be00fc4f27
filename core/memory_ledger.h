// The books of one device's memory: who holds how much, and who held how much when most was held.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "core/memory_category.h"

namespace lacuna {

// Bytes handed out now and the most there ever were.
struct MemoryStats {
  int64_t in_use = 0;
  int64_t peak = 0;
  int64_t reserved = 0;  // in use plus kept for reuse; of the allocator, not of the ledger

  struct Category {
    int64_t in_use = 0;
    int64_t at_peak = 0;  // when all categories together were at their peak: these add up to `peak`
    int64_t peak = 0;     // its own, whenever that was
  };
  std::array<Category, kNumMemoryCategories> categories{};

  const Category& of(MemoryCategory category) const {
    return categories[static_cast<size_t>(category)];
  }
};

// May be used by several threads; an entry costs an uncontended lock, and a copy of ten numbers
// where the peak rises.
class MemoryLedger {
 public:
  void Add(MemoryCategory category, int64_t bytes);
  void Remove(MemoryCategory category, int64_t bytes) noexcept;
  // Whether `bytes` more stay within the limit.
  bool Fits(int64_t bytes) const;

  // Of what is in use; 0: none.
  void set_limit(int64_t bytes);
  int64_t limit() const;

  MemoryStats stats() const;
  // All peaks become what is in use now.
  void ResetPeak();

 private:
  mutable std::mutex mutex_;
  MemoryStats stats_;
  int64_t limit_ = 0;
};

}  // namespace lacuna
