#include "recipes/rehearsal/received_choices.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/random.h"
#include "core/status.h"
#include "moe/rank_rows.h"
#include "recipes/plan/rank_shares.h"

namespace lacuna {
namespace {

double Real(int64_t n) {
  return static_cast<double>(n);
}

// The index at which `share` of the weights' sum is passed; one whose weight is not 0.
size_t Pick(const std::vector<double>& weights, double share) {
  double left = share * std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    last = i;
    if (left < weights[i]) break;
    left -= weights[i];
  }
  return last;
}

}  // namespace

absl::Status ChoiceDistribution::Validate() const {
  // All choices of a token, or all experts of the rank.
  const double most = Real(std::min(experts_per_token, num_experts / ranks)) * Real(ranks) /
                      Real(experts_per_token);
  if (balance >= 1 && (balance == 1 || balance < most)) return absl::OkStatus();
  return ConfigError(
      "--balance {}: must be uniform, or from 1 to below {:.3g} with {} of {} experts on {} ranks",
      balance, most, experts_per_token, num_experts, ranks);
}

ReceivedChoices::ReceivedChoices(const ChoiceDistribution& distribution, int64_t draws,
                                 Device device, DType weights)
    : device_(device), weights_(weights), chunks_(distribution.chunks) {
  const double factor = ArrivalFactor(distribution.num_experts, distribution.experts_per_token,
                                      distribution.ranks, distribution.balance);
  for (int64_t i = 0; i < draws; ++i) {
    Draw draw = Make(distribution, factor, static_cast<uint64_t>(i));
    if (by_rows_.contains(draw.rows)) {  // the same rows are the same draw
      draws_.push_back(draws_[by_rows_[draw.rows]]);
      continue;
    }
    by_rows_[draw.rows] = draws_.size();
    draws_.push_back(std::move(draw));
  }
}

ReceivedChoices::Draw ReceivedChoices::Make(const ChoiceDistribution& d, double factor,
                                            uint64_t number) const {
  const int64_t here = d.num_experts / d.ranks, k = d.experts_per_token;
  const double spread = std::log(d.balance);
  const uint64_t stream = 2 * number;
  std::vector<double> weight;
  for (int64_t e = 0; e < here; ++e)
    weight.push_back(std::exp(spread * PhiloxNormal(d.seed, stream + 1, static_cast<uint64_t>(e))));

  Draw draw;
  std::vector<int32_t> ids;
  std::vector<double> weights;
  std::vector<int64_t> load(static_cast<size_t>(here), 0);
  uint64_t drawn = 0;
  draw.choices.assign(static_cast<size_t>(d.ranks), 0);
  for (int64_t i = 0; i < d.chunks * d.ranks; ++i) {
    const int64_t chunk = i / d.ranks, end = ChunkBegin(chunk + 1, d.tokens, d.chunks);
    int64_t& choices = draw.choices[static_cast<size_t>(i % d.ranks)];
    draw.rows.push_back(0);
    for (int64_t token = ChunkBegin(chunk, d.tokens, d.chunks); token < end; ++token) {
      std::vector<double> left = weight;  // a few numbers
      int64_t taken_here = 0;
      const size_t row = ids.size();
      ids.resize(row + static_cast<size_t>(k), -1);
      for (int64_t choice = 0; choice < k; ++choice) {
        const double mine = factor * Real(here - taken_here),
                     others = Real(d.num_experts - here - (choice - taken_here)),
                     u = PhiloxUniform(d.seed, stream, drawn++) * (mine + others);
        if (u >= mine) continue;
        const size_t expert = Pick(left, u / mine);
        left[expert] = 0;
        ids[row + static_cast<size_t>(choice)] =
            static_cast<int32_t>(static_cast<int64_t>(expert) * d.chunks + chunk);
        ++load[expert];
        ++taken_here;
      }
      if (taken_here == 0) {
        ids.resize(row);
        continue;
      }
      ++draw.rows.back();
      choices += taken_here;
    }
  }
  draw.num_rows = std::accumulate(draw.rows.begin(), draw.rows.end(), int64_t{0});
  draw.num_choices = std::accumulate(draw.choices.begin(), draw.choices.end(), int64_t{0});
  for (const int32_t id : ids) weights.push_back(id < 0 ? 0 : 1 / Real(k));
  draw.fullest_expert = *std::max_element(load.begin(), load.end());
  draw.ids = Tensor::FromVector(ids, {draw.num_rows, k}).To(device_);
  draw.weights = Tensor::FromDoubles(weights, {draw.num_rows, k}, weights_).To(device_);
  return draw;
}

bool ReceivedChoices::Receive(const Tensor& in, const std::vector<int64_t>& send_rows, Tensor& out,
                              const std::vector<int64_t>& receive_rows) {
  const Draw* came = std::exchange(ids_came_, nullptr);
  if (in.device() == kCpu && in.dtype() == DType::kI64 && in.rank() == 2 &&
      in.dim(1) == chunks_ + 1) {
    const Draw& draw = draws_[next_++ % draws_.size()];
    const size_t ranks = send_rows.size(), chunks = static_cast<size_t>(chunks_);
    for (size_t r = 0; r < ranks; ++r) {
      int64_t* const counts = out.mutable_data<int64_t>() + r * (chunks + 1);
      for (size_t p = 0; p < chunks; ++p) counts[p] = draw.rows[p * ranks + r];
      counts[chunks] = draw.choices[r];
    }
    return true;
  }
  if (in.dtype() == DType::kI32) {
    const auto found = by_rows_.find(receive_rows);
    LACUNA_CHECK(found != by_rows_.end(), "rehearsal: ids of {} rows that nobody announced",
                 out.dim(0));
    ids_came_ = &draws_[found->second];
    out.CopyFrom(ids_came_->ids);
    return true;
  }
  if (came == nullptr) return false;
  out.CopyFrom(came->weights);
  return true;
}

int64_t ReceivedChoices::bytes() const {
  int64_t sum = 0;
  for (const auto& [rows, index] : by_rows_)
    sum += draws_[index].ids.bytes() + draws_[index].weights.bytes();
  return sum;
}

}  // namespace lacuna
