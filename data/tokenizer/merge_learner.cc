#include "data/tokenizer/merge_learner.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "data/tokenizer/bytes_hash.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

using Pair = std::pair<int32_t, int32_t>;

class MergeLearner {
 public:
  MergeLearner(const std::vector<std::pair<std::string_view, int64_t>>& words,
               const std::vector<std::string>& special_tokens)
      : num_special_(static_cast<int32_t>(special_tokens.size())) {
    for (const std::string& token : special_tokens) AddToken(token);
    std::array<int32_t, 256> byte_ids;
    for (const int b : BytesInSymbolOrder())
      byte_ids[static_cast<size_t>(b)] = AddToken(ByteSymbol(static_cast<uint8_t>(b)));
    words_.reserve(words.size());
    for (const auto& [bytes, count] : words) {
      words_.push_back(
          {static_cast<int64_t>(symbols_.size()), static_cast<int32_t>(bytes.size()), count});
      for (const char byte : bytes) symbols_.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    }
    CountPairs();
  }

  LearnedMerges Run(int64_t vocab_size, int64_t min_frequency) {
    std::vector<Pair> merges;
    while (static_cast<int64_t>(tokens_.size()) < vocab_size && !heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      Candidate top = heap_.back();
      heap_.pop_back();
      // Counts only fall while a candidate waits, except where the pair came up anew; either way
      // the entry is put right when met.
      if (const int64_t count = pair_counts_[top.pair]; count != top.count) {
        top.count = count;
        Push(top);
        continue;
      }
      if (top.count < min_frequency) break;
      const std::string merged = tokens_[static_cast<size_t>(top.pair.first)] +
                                 tokens_[static_cast<size_t>(top.pair.second)];
      const auto known = ids_.find(merged);
      // No text may become a special token.
      if (known != ids_.end() && known->second < num_special_) continue;
      // "abc" may be reached from (ab, c) and from (a, bc): one token, two merges.
      const int32_t id = known == ids_.end() ? AddToken(merged) : known->second;
      merges.push_back(top.pair);
      MergeEverywhere(top, id);
    }
    return {std::move(tokens_), KeepLast(merges)};
  }

 private:
  struct Word {
    int64_t begin;  // in symbols_
    int32_t length;
    int64_t count;
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    size_t places;  // index of the words it may be in
    bool operator<(const Candidate& other) const {
      if (count != other.count) return count < other.count;
      if (pair != other.pair) return pair > other.pair;
      return places > other.places;
    }
  };

  static std::vector<int> BytesInSymbolOrder() {
    std::vector<int> bytes(256);
    std::iota(bytes.begin(), bytes.end(), 0);
    std::sort(bytes.begin(), bytes.end(), [](int a, int b) {
      return ByteSymbolCodePoint(static_cast<uint8_t>(a)) <
             ByteSymbolCodePoint(static_cast<uint8_t>(b));
    });
    return bytes;
  }

  int32_t AddToken(const std::string& token) {
    const int32_t id = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
    ids_.emplace(token, id);
    return id;
  }

  void Push(const Candidate& candidate) {
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end());
  }

  // Notes that `word` has the pair since the last PushNew.
  void Note(Pair pair, int32_t word) {
    const auto [entry, is_new] = new_places_.try_emplace(pair, places_.size());
    if (is_new) {
      places_.emplace_back();
      new_pairs_.push_back(pair);
    }
    std::vector<int32_t>& words = places_[entry->second];
    if (words.empty() || words.back() != word) words.push_back(word);
  }

  void PushNew() {
    for (const Pair& pair : new_pairs_) {
      if (const int64_t count = pair_counts_[pair]; count > 0)
        Push({count, pair, new_places_[pair]});
    }
    new_pairs_.clear();
    new_places_.clear();
  }

  void CountPairs() {
    for (size_t w = 0; w < words_.size(); ++w) {
      const int32_t* symbols = &symbols_[static_cast<size_t>(words_[w].begin)];
      for (int32_t i = 0; i + 1 < words_[w].length; ++i) {
        const Pair pair{symbols[i], symbols[i + 1]};
        pair_counts_[pair] += words_[w].count;
        Note(pair, static_cast<int32_t>(w));
      }
    }
    PushNew();
  }

  // The merged pair's own count stays, as in the `tokenizers` library: the pair matters again only
  // if it comes up anew.
  void MergeEverywhere(const Candidate& top, int32_t id) {
    const std::vector<int32_t> words = std::move(places_[top.places]);
    for (const int32_t w : words) MergeIn(w, top.pair, id);
    PushNew();
  }

  void MergeIn(int32_t w, Pair pair, int32_t id) {
    Word& word = words_[static_cast<size_t>(w)];
    int32_t* symbols = &symbols_[static_cast<size_t>(word.begin)];
    const auto appear = [&](Pair made) {
      pair_counts_[made] += word.count;
      Note(made, w);
    };
    int32_t out = 0;
    for (int32_t i = 0; i < word.length; ++i, ++out) {
      if (i + 1 == word.length || symbols[i] != pair.first || symbols[i + 1] != pair.second) {
        symbols[out] = symbols[i];
        continue;
      }
      if (out > 0) {
        pair_counts_[{symbols[out - 1], pair.first}] -= word.count;
        appear({symbols[out - 1], id});
      }
      if (i + 2 < word.length) {
        pair_counts_[{pair.second, symbols[i + 2]}] -= word.count;
        appear({id, symbols[i + 2]});
      }
      symbols[out] = id;
      ++i;
    }
    word.length = out;
  }

  static std::vector<Pair> KeepLast(const std::vector<Pair>& merges) {
    absl::flat_hash_map<Pair, size_t> last;
    for (size_t i = 0; i < merges.size(); ++i) last[merges[i]] = i;
    std::vector<Pair> kept;
    for (size_t i = 0; i < merges.size(); ++i) {
      if (last[merges[i]] == i) kept.push_back(merges[i]);
    }
    return kept;
  }

  int32_t num_special_;
  std::vector<std::string> tokens_;
  BytesMap<int32_t> ids_;
  std::vector<Word> words_;
  std::vector<int32_t> symbols_;
  absl::flat_hash_map<Pair, int64_t> pair_counts_;
  std::vector<Candidate> heap_;
  std::vector<std::vector<int32_t>> places_;
  absl::flat_hash_map<Pair, size_t> new_places_;
  // in order of appearance: the hash map's would differ from run to run
  std::vector<Pair> new_pairs_;
};

}  // namespace

LearnedMerges LearnMerges(const std::vector<std::pair<std::string_view, int64_t>>& words,
                          const std::vector<std::string>& special_tokens, int64_t vocab_size,
                          int64_t min_frequency) {
  return MergeLearner(words, special_tokens).Run(vocab_size, min_frequency);
}

}  // namespace lacuna
