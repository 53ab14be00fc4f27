#include "core/memory_ledger.h"

#include <algorithm>

namespace lacuna {

void MemoryLedger::Add(MemoryCategory category, int64_t bytes) {
  std::lock_guard lock(mutex_);
  MemoryStats::Category& mine = stats_.categories[static_cast<size_t>(category)];
  mine.in_use += bytes;
  mine.peak = std::max(mine.peak, mine.in_use);
  stats_.in_use += bytes;
  if (stats_.in_use <= stats_.peak) return;
  stats_.peak = stats_.in_use;
  for (MemoryStats::Category& each : stats_.categories) each.at_peak = each.in_use;
}

void MemoryLedger::Remove(MemoryCategory category, int64_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  stats_.categories[static_cast<size_t>(category)].in_use -= bytes;
  stats_.in_use -= bytes;
}

bool MemoryLedger::Fits(int64_t bytes) const {
  std::lock_guard lock(mutex_);
  return limit_ == 0 || bytes <= limit_ - stats_.in_use;
}

void MemoryLedger::set_limit(int64_t bytes) {
  std::lock_guard lock(mutex_);
  limit_ = bytes;
}

int64_t MemoryLedger::limit() const {
  std::lock_guard lock(mutex_);
  return limit_;
}

MemoryStats MemoryLedger::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void MemoryLedger::ResetPeak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
  for (MemoryStats::Category& each : stats_.categories) each.at_peak = each.peak = each.in_use;
}

}  // namespace lacuna
