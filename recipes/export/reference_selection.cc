#include "recipes/export/reference_selection.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/status.h"

namespace lacuna {
namespace {

size_t At(int64_t i) {
  return static_cast<size_t>(i);
}

// Which blocks of query t and their scores: the choice of section 3.3.2 of the paper, on a group's
// summed probabilities p[i] of the compressed blocks it sees.
struct Choice {
  std::vector<double> scores;   // by block
  std::vector<int64_t> blocks;  // ascending
  double last = HUGE_VAL;       // lowest score taken without being forced
};

bool IsForced(const ReferenceConfig& config, int64_t j, int64_t own) {
  return j < config.init_blocks || j > own - config.local_blocks;
}

Choice Choose(const ReferenceConfig& config, int64_t t, const Doubles& p) {
  const int64_t own = t / config.select_block;
  Choice choice;
  choice.scores.assign(At(own + 1), 0.0);
  for (size_t i = 0; i < p.size(); ++i) {
    for (int64_t piece = 0; piece < config.block / config.stride; ++piece) {
      const int64_t token = (static_cast<int64_t>(i) + piece) * config.stride;
      choice.scores[At(token / config.select_block)] += p[i];
    }
  }
  std::vector<int64_t> order(At(own + 1));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const bool fa = IsForced(config, a, own), fb = IsForced(config, b, own);
    if (fa != fb) return fa;
    return !fa && choice.scores[At(a)] > choice.scores[At(b)];
  });
  order.resize(At(std::min(own + 1, config.select_topk)));
  for (const int64_t j : order) {
    if (!IsForced(config, j, own)) choice.last = std::min(choice.last, choice.scores[At(j)]);
  }
  std::sort(order.begin(), order.end());
  choice.blocks = std::move(order);
  return choice;
}

// Whether `list` is another way to break ties within `tie` of the last score taken.
bool IsTied(const ReferenceConfig& config, int64_t t, const Choice& choice,
            const std::vector<int64_t>& list, double tie) {
  const int64_t own = t / config.select_block;
  const bool ascends =
      std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end();
  if (list.size() != choice.blocks.size() || !ascends) return false;
  for (int64_t j = 0; j <= own; ++j) {
    const bool taken = std::binary_search(list.begin(), list.end(), j);
    const double score = choice.scores[At(j)];
    if (IsForced(config, j, own) ? !taken
                                 : (taken ? score < choice.last - tie : score > choice.last + tie))
      return false;
  }
  return list.back() <= own;
}

}  // namespace

std::vector<int64_t> ReferenceBlocks(const ReferenceConfig& config, int64_t t, int64_t group,
                                     const Doubles& p, const OtherBlocks& other,
                                     std::mutex* mutex) {
  const Choice choice = Choose(config, t, p);
  if (other.lists == nullptr) return choice.blocks;
  std::vector<int64_t> list;
  for (const int32_t j :
       RowOfList(*other.lists, At(t * config.groups + group), At(other.tokens * config.groups))) {
    if (j >= 0) list.push_back(j);
  }
  const double tie = other.tie * static_cast<double>(config.block / config.stride *
                                                     (config.heads / config.groups));
  const bool equal = list == choice.blocks;
  const bool tied = !equal && IsTied(config, t, choice, list, tie);
  const std::lock_guard lock(*mutex);
  ++other.agreement->compared;
  other.agreement->equal += equal ? 1 : 0;
  other.agreement->ties += tied ? 1 : 0;
  if (!equal && !tied && other.agreement->unexplained++ == 0) {
    other.agreement->example =
        fmt::format("token {}, group {}: blocks [{}] against [{}] here", t, group,
                    fmt::join(list, ", "), fmt::join(choice.blocks, ", "));
  }
  return tied ? list : choice.blocks;
}

}  // namespace lacuna
