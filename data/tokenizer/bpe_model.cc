#include "data/tokenizer/bpe_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <utility>

#include "core/error.h"

namespace lacuna {
namespace {

// Up to here scanning for the lowest rank is faster than a heap.
constexpr size_t kShortWord = 48;

size_t MixPair(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15ull;
  return static_cast<size_t>(pair ^ (pair >> 32));
}

}  // namespace

BpeModel::Workspace::Workspace() : slots_(kSlots) {}

BpeModel::BpeModel(const std::array<int32_t, 256>& byte_ids, const std::vector<BpeMerge>& merges,
                   BytesMap<int32_t> whole_words)
    : byte_ids_(byte_ids),
      pairs_(std::bit_ceil(2 * merges.size() + 2)),
      whole_words_(std::move(whole_words)) {
  results_.reserve(merges.size());
  for (const BpeMerge& merge : merges) {
    const uint64_t pair = PairOf(merge.left, merge.right);
    size_t i = MixPair(pair) & (pairs_.size() - 1);
    while (pairs_[i].pair != kNoPair && pairs_[i].pair != pair) i = (i + 1) & (pairs_.size() - 1);
    pairs_[i] = {pair, static_cast<uint32_t>(results_.size())};
    results_.push_back(merge.result);
  }
}

const BpeModel::PairEntry& BpeModel::Find(int32_t left, int32_t right) const {
  const uint64_t pair = PairOf(left, right);
  size_t i = MixPair(pair) & (pairs_.size() - 1);
  while (pairs_[i].pair != kNoPair && pairs_[i].pair != pair) i = (i + 1) & (pairs_.size() - 1);
  return pairs_[i];
}

void BpeModel::Encode(std::string_view word, Workspace* workspace,
                      std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  if (word.size() > Workspace::kMaxBytes) return Merge(word, workspace, ids);
  Workspace::Slot& slot =
      workspace->slots_[XXH3_64bits(word.data(), word.size()) & (Workspace::kSlots - 1)];
  if (slot.num_bytes == word.size() && std::memcmp(slot.bytes, word.data(), word.size()) == 0) {
    ids->insert(ids->end(), slot.ids, slot.ids + slot.num_ids);
    return;
  }
  const size_t before = ids->size();
  Merge(word, workspace, ids);
  const size_t count = ids->size() - before;
  if (count > Workspace::kMaxIds) return;
  slot.num_bytes = static_cast<uint8_t>(word.size());
  std::memcpy(slot.bytes, word.data(), word.size());
  slot.num_ids = static_cast<int32_t>(count);
  std::copy_n(ids->data() + before, count, slot.ids);
}

void BpeModel::Merge(std::string_view word, Workspace* workspace, std::vector<int32_t>* ids) const {
  if (!whole_words_.empty()) {
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  LACUNA_CHECK(word.size() < size_t{1} << 31, "bpe: a word of {} bytes, allowed are less than 2^31",
               word.size());
  std::vector<int32_t>& symbols = workspace->ids_;
  std::vector<uint32_t>& ranks = workspace->ranks_;  // of (symbol i, the one after it)
  symbols.resize(word.size());
  ranks.resize(word.size());
  for (size_t i = 0; i < word.size(); ++i) symbols[i] = byte_ids_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i + 1 < word.size(); ++i) ranks[i] = Find(symbols[i], symbols[i + 1]).rank;
  ranks.back() = kNoRank;
  if (word.size() <= kShortWord) {
    MergeShort(workspace);
  } else {
    MergeLong(workspace);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

void BpeModel::MergeShort(Workspace* workspace) const {
  std::vector<int32_t>& symbols = workspace->ids_;
  std::vector<uint32_t>& ranks = workspace->ranks_;
  while (true) {
    const size_t best =
        static_cast<size_t>(std::min_element(ranks.begin(), ranks.end()) - ranks.begin());
    if (ranks[best] == kNoRank) return;
    symbols[best] = results_[ranks[best]];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    ranks.erase(ranks.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    ranks[best] = best + 1 < symbols.size() ? Find(symbols[best], symbols[best + 1]).rank : kNoRank;
    if (best > 0) ranks[best - 1] = Find(symbols[best - 1], symbols[best]).rank;
  }
}

// A heap of (rank, place) over a linked list, so that a word of a million equal characters takes
// O(n log n). An entry is out of date when the rank at its place is another one by now.
void BpeModel::MergeLong(Workspace* workspace) const {
  std::vector<int32_t>&symbols = workspace->ids_, &next = workspace->next_,
  &previous = workspace->previous_;
  std::vector<uint32_t>& ranks = workspace->ranks_;
  std::vector<uint64_t>& heap = workspace->heap_;
  const int32_t size = static_cast<int32_t>(symbols.size());
  next.resize(symbols.size());
  previous.resize(symbols.size());
  heap.clear();
  const auto entry = [&](int32_t at) {
    return static_cast<uint64_t>(ranks[static_cast<size_t>(at)]) << 32 | static_cast<uint32_t>(at);
  };
  for (int32_t i = 0; i < size; ++i) {
    next[static_cast<size_t>(i)] = i + 1;
    previous[static_cast<size_t>(i)] = i - 1;
    if (ranks[static_cast<size_t>(i)] != kNoRank) heap.push_back(entry(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](int32_t at) {
    const int32_t right = next[static_cast<size_t>(at)];
    uint32_t& rank = ranks[static_cast<size_t>(at)];
    rank = right < size
               ? Find(symbols[static_cast<size_t>(at)], symbols[static_cast<size_t>(right)]).rank
               : kNoRank;
    if (rank == kNoRank) return;
    heap.push_back(entry(at));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const int32_t at = static_cast<int32_t>(top & 0xFFFFFFFFu);
    if (ranks[static_cast<size_t>(at)] != static_cast<uint32_t>(top >> 32)) continue;
    const int32_t gone = next[static_cast<size_t>(at)];
    const int32_t after = next[static_cast<size_t>(gone)];
    symbols[static_cast<size_t>(at)] = results_[top >> 32];
    ranks[static_cast<size_t>(gone)] = kNoRank;
    symbols[static_cast<size_t>(gone)] = -1;
    next[static_cast<size_t>(at)] = after;
    if (after < size) previous[static_cast<size_t>(after)] = at;
    update(at);
    if (previous[static_cast<size_t>(at)] >= 0) update(previous[static_cast<size_t>(at)]);
  }
  symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
}

}  // namespace lacuna
