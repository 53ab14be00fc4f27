#include "data/sample_index.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace lacuna {
namespace {

// [0, n) in an order drawn from (key, stream): Fisher-Yates, one Philox value a step.
std::vector<int64_t> Shuffled(int64_t n, uint64_t key, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    const PhiloxBlock block = Philox(key, static_cast<uint64_t>(i), stream);
    const uint64_t bits = (static_cast<uint64_t>(block.word[0]) << 32) | block.word[1];
    __extension__ using Wide = unsigned __int128;
    const auto j =
        static_cast<size_t>((static_cast<Wide>(bits) * static_cast<uint64_t>(i + 1)) >> 64);
    std::swap(order[static_cast<size_t>(i)], order[j]);
  }
  return order;
}

struct Packed {
  std::vector<int64_t> sample_begin{0};
  std::vector<Fragment> fragments;

  void EndSample() { sample_begin.push_back(static_cast<int64_t>(fragments.size())); }
};

Packed PackConcat(const TokenCorpus& corpus, const std::vector<int64_t>& documents,
                  int64_t sequence_length) {
  Packed packed;
  int64_t room = sequence_length;
  for (const int64_t document : documents) {
    const int64_t length = corpus.Find(document).length;
    for (int64_t begin = 0; begin < length;) {
      const int64_t part = std::min(room, length - begin);
      packed.fragments.push_back({document, begin, part});
      begin += part;
      room -= part;
      if (room > 0) continue;
      packed.EndSample();
      room = sequence_length;
    }
  }
  if (room < sequence_length) packed.EndSample();
  return packed;
}

// Whole samples are cut off each document's front; `rest` takes what is left, at most
// sequence_length - 1 tokens.
Packed CutWholeSamples(const TokenCorpus& corpus, const std::vector<int64_t>& documents,
                       int64_t sequence_length, std::vector<Fragment>* rest) {
  Packed packed;
  for (const int64_t document : documents) {
    const int64_t length = corpus.Find(document).length;
    int64_t begin = 0;
    for (; length - begin >= sequence_length; begin += sequence_length) {
      packed.fragments.push_back({document, begin, sequence_length});
      packed.EndSample();
    }
    if (begin < length) rest->push_back({document, begin, length - begin});
  }
  return packed;
}

Packed PackBestFit(const TokenCorpus& corpus, const std::vector<int64_t>& documents,
                   int64_t sequence_length) {
  std::vector<Fragment> rest;
  Packed packed = CutWholeSamples(corpus, documents, sequence_length, &rest);
  std::stable_sort(rest.begin(), rest.end(),
                   [](const Fragment& a, const Fragment& b) { return a.length > b.length; });
  std::map<int64_t, std::vector<size_t>> open;  // room left -> the samples that have it
  std::vector<size_t> sample_of(rest.size());
  std::vector<int64_t> count;
  for (size_t i = 0; i < rest.size(); ++i) {
    const auto fit = open.lower_bound(rest[i].length);
    int64_t room = sequence_length;
    if (fit == open.end()) {
      sample_of[i] = count.size();
      count.push_back(0);
    } else {
      room = fit->first;
      sample_of[i] = fit->second.back();
      fit->second.pop_back();
      if (fit->second.empty()) open.erase(fit);
    }
    ++count[sample_of[i]];
    if (room > rest[i].length) open[room - rest[i].length].push_back(sample_of[i]);
  }
  // Fragments of a sample together, in the order they were packed.
  const size_t first = packed.fragments.size();
  std::vector<size_t> next(count.size());
  for (size_t s = 0; s < count.size(); ++s) {
    next[s] = static_cast<size_t>(packed.sample_begin.back());
    packed.sample_begin.push_back(packed.sample_begin.back() + count[s]);
  }
  packed.fragments.resize(first + rest.size());
  for (size_t i = 0; i < rest.size(); ++i) packed.fragments[next[sample_of[i]]++] = rest[i];
  return packed;
}

Packed PackOneDocument(const TokenCorpus& corpus, const std::vector<int64_t>& documents,
                       int64_t sequence_length) {
  std::vector<Fragment> rest;
  Packed packed = CutWholeSamples(corpus, documents, sequence_length, &rest);
  for (const Fragment& fragment : rest) {
    packed.fragments.push_back(fragment);
    packed.EndSample();
  }
  return packed;
}

Packed PackWhole(const TokenCorpus& corpus, std::vector<int64_t> documents,
                 int64_t sequence_length) {
  std::erase_if(documents,
                [&](int64_t document) { return corpus.Find(document).length > sequence_length; });
  return PackBestFit(corpus, documents, sequence_length);
}

Packed Pack(const TokenCorpus& corpus, const std::vector<int64_t>& documents,
            const SampleIndexOptions& options) {
  switch (options.packing) {
    case Packing::kConcat:
      return PackConcat(corpus, documents, options.sequence_length);
    case Packing::kBestFit:
      return PackBestFit(corpus, documents, options.sequence_length);
    case Packing::kWhole:
      return PackWhole(corpus, documents, options.sequence_length);
    case Packing::kOneDocument:
      break;
  }
  return PackOneDocument(corpus, documents, options.sequence_length);
}

uint64_t HashText(const std::string& text) {
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace

SampleIndex SampleIndex::Build(const TokenCorpus& corpus, const SampleIndexOptions& options) {
  LACUNA_CHECK(options.sequence_length > 0 && options.epoch >= 0,
               "sample index of sequence length {}, epoch {}", options.sequence_length,
               options.epoch);
  // The random stream does not depend on lengths or packing: another packing visits the documents
  // in the same order.
  const uint64_t key = HashText(
      fmt::format("{}\n{}\n{}\n{}", options.seed, options.stage, options.source, options.epoch));
  Packed packed = Pack(corpus, Shuffled(corpus.num_documents(), key, 0), options);
  SampleIndex index;
  index.sample_begin_ = std::move(packed.sample_begin);
  index.fragments_ = std::move(packed.fragments);
  index.order_ = Shuffled(static_cast<int64_t>(index.sample_begin_.size()) - 1, key, 1);
  return index;
}

uint64_t SampleIndex::Key(const TokenCorpus& corpus, const SampleIndexOptions& options) {
  constexpr int kVersion = 2;  // of the packing and of the file
  return HashText(fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", kVersion,
                              ToHex(corpus.fingerprint()), static_cast<int>(options.packing),
                              options.sequence_length, options.seed, options.stage, options.source,
                              options.epoch));
}

std::span<const Fragment> SampleIndex::Sample(int64_t i) const {
  LACUNA_CHECK(i >= 0 && i < num_samples(), "sample {} of {}", i, num_samples());
  const auto packed = static_cast<size_t>(order_[static_cast<size_t>(i)]);
  const int64_t begin = sample_begin_[packed], end = sample_begin_[packed + 1];
  return std::span(fragments_)
      .subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

}  // namespace lacuna
