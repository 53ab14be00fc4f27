// Byte-pair encoding of one word (Sennrich et al., 2016) over bytes.
//
// A word begins as its bytes' tokens; the adjacent pair of lowest rank is merged, the leftmost of
// several, until no pair has a merge.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bytes_hash.h"

namespace lacuna {

struct BpeMerge {
  int32_t left, right, result;
};

class BpeModel {
 public:
  // What one thread works with: buffers, and the ids of recent words. Results do not depend on what
  // it holds.
  class Workspace {
   public:
    Workspace();

   private:
    friend class BpeModel;
    // A word of at most 31 bytes and at most 7 tokens fills one cache line.
    static constexpr size_t kMaxBytes = 31, kMaxIds = 7, kSlots = size_t{1} << 15;
    struct alignas(64) Slot {
      uint8_t num_bytes = 0;
      char bytes[kMaxBytes];
      int32_t num_ids = 0;
      int32_t ids[kMaxIds];
    };
    std::vector<Slot> slots_;
    std::vector<int32_t> ids_, next_, previous_;
    std::vector<uint32_t> ranks_;
    std::vector<uint64_t> heap_;
  };

  // byte_ids: the tokens of the 256 bytes. merges: in order of rank; a pair listed twice has its
  // last rank. whole_words: words that are a token without any merging (`ignore_merges`); may be
  // empty.
  BpeModel(const std::array<int32_t, 256>& byte_ids, const std::vector<BpeMerge>& merges,
           BytesMap<int32_t> whole_words);

  // Appends the word's tokens.
  void Encode(std::string_view word, Workspace* workspace, std::vector<int32_t>* ids) const;

 private:
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  struct PairEntry {
    uint64_t pair = kNoPair;
    uint32_t rank = kNoRank;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static uint64_t PairOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  const PairEntry& Find(int32_t left, int32_t right) const;
  void Merge(std::string_view word, Workspace* workspace, std::vector<int32_t>* ids) const;
  void MergeShort(Workspace* workspace) const;
  void MergeLong(Workspace* workspace) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<PairEntry> pairs_;  // open addressing, a power of two, at most half full
  std::vector<int32_t> results_;  // by rank
  BytesMap<int32_t> whole_words_;
};

}  // namespace lacuna
