#include "recipes/trainer/routing_record.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "nn/context_share.h"

namespace lacuna {
namespace {

// The score of the last that was taken and that of the first that was left differ by less than bf16
// resolves.
constexpr double kNearTie = 1.0 / 256;

int64_t NearTies(const Tensor& scores, const Tensor& bias, int64_t taken) {
  const std::vector<double> s = scores.ToDoubles();
  const std::vector<double> b = bias.defined()
                                    ? bias.ToDoubles()
                                    : std::vector<double>(static_cast<size_t>(scores.dim(1)), 0.0);
  int64_t ties = 0;
  std::vector<double> row(b.size());
  for (size_t first = 0; first < s.size(); first += row.size()) {
    for (size_t e = 0; e < row.size(); ++e) row[e] = s[first + e] + b[e];
    std::sort(row.begin(), row.end(), std::greater<>());
    const auto k = static_cast<size_t>(taken);
    ties += k < row.size() && row[k - 1] - row[k] <= kNearTie * std::abs(row[k - 1]);
  }
  return ties;
}

}  // namespace

RoutingRecord::RoutingRecord(std::vector<MoeLayer*> layers) : layers_(std::move(layers)) {
  for (MoeLayer* layer : layers_) {
    layer->set_routing_observer(
        [this](const Tensor& scores, const Tensor& bias, const Tensor& ids) {
          experts_per_token_ = ids.dim(1);
          std::vector<double> chosen = ids.ToDoubles();
          for (auto row = chosen.begin(); row != chosen.end(); row += ids.dim(1))
            std::sort(row, row + ids.dim(1));
          choices_.push_back(std::move(chosen));
          near_ties_ += static_cast<double>(NearTies(scores, bias, ids.dim(1)));
        });
  }
}

RoutingRecord::~RoutingRecord() {
  for (MoeLayer* layer : layers_) layer->set_routing_observer({});
}

std::vector<double> RoutingRecord::OfAllRanks(Communicator& comm, int context) const {
  std::string mine;
  for (const std::vector<double>& call : choices_)
    mine.append(reinterpret_cast<const char*>(call.data()), call.size() * sizeof(double));
  mine.append(reinterpret_cast<const char*>(&near_ties_), sizeof(double));
  std::vector<std::string> all;
  comm.AllGather(std::move(mine), &all).Wait();

  const size_t samples_of_rank = choices_.size() / std::max<size_t>(1, layers_.size());
  const size_t bytes =
      samples_of_rank == 0 ? 0 : (all.front().size() - sizeof(double)) / samples_of_rank;
  const auto row_bytes = static_cast<size_t>(experts_per_token_) * sizeof(double);
  const size_t own_rows = bytes / std::max<size_t>(1, layers_.size()) / row_bytes;
  const auto rows = static_cast<int64_t>(own_rows) * context;
  std::vector<double> result;
  // Puts the ranks' rows of a call where they are in the sample.
  const auto append = [&](size_t first_rank, size_t begin) {
    const size_t before = result.size();
    result.resize(before + own_rows * static_cast<size_t>(context * experts_per_token_));
    for (int rank = 0; rank < context; ++rank) {
      const char* from = all[first_rank + static_cast<size_t>(rank)].data() + begin;
      for (const int32_t row : RowsOfContextRank(rows, rows, context, rank)) {
        double* to = result.data() + before + row * experts_per_token_;
        std::copy_n(from, row_bytes, reinterpret_cast<char*>(to));
        from += row_bytes;
      }
    }
  };
  for (size_t sample = 0; sample < samples_of_rank; ++sample) {
    for (size_t first = 0; first < all.size(); first += static_cast<size_t>(context)) {
      for (size_t layer = 0; layer < layers_.size(); ++layer)
        append(first, sample * bytes + layer * own_rows * row_bytes);
    }
  }
  double near_ties = 0;
  for (const std::string& text : all) {
    double of_rank = 0;
    std::copy_n(text.data() + text.size() - sizeof(double), sizeof(double),
                reinterpret_cast<char*>(&of_rank));
    near_ties += of_rank;
  }
  result.push_back(near_ties);
  return result;
}

RoutingAgreement CompareRouting(const std::vector<double>& a, const std::vector<double>& b,
                                int64_t experts_per_token) {
  RoutingAgreement agreement;
  if (b.empty()) return agreement;
  agreement.near_ties = static_cast<int64_t>(b.back());
  agreement.rows = static_cast<int64_t>(b.size() - 1) / experts_per_token;
  if (a.size() != b.size()) return agreement;
  for (int64_t row = 0; row < agreement.rows; ++row) {
    const int64_t at = row * experts_per_token;
    agreement.alike +=
        std::equal(a.begin() + at, a.begin() + at + experts_per_token, b.begin() + at);
  }
  return agreement;
}

}  // namespace lacuna
