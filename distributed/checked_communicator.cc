#include "distributed/checked_communicator.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/profile_range.h"

namespace lacuna {
namespace {

using nlohmann::json;

// "f32 [100, 4] on cpu"; of rows only what one row is.
std::string TextOf(const Tensor& tensor, bool rows = false) {
  if (!tensor.defined()) return "an undefined tensor";
  Shape shape = tensor.shape();
  if (rows) shape.erase(shape.begin());
  return fmt::format("{} {}{} on {}", NameOf(tensor.dtype()), rows ? "rows of " : "",
                     ToString(shape), tensor.device() == kCpu ? "cpu" : "cuda");
}

// What one rank calls.
struct Call {
  std::string what;
  std::vector<int64_t> send_rows, receive_rows;
  std::string context;
};

json ToJson(const Call& call) {
  return {{"what", call.what},
          {"send", call.send_rows},
          {"receive", call.receive_rows},
          {"context", call.context}};
}
Call FromJson(const json& text) {
  return {text.at("what"), text.at("send"), text.at("receive"), text.at("context")};
}

std::string Where(const Call& call) {
  return call.context.empty() ? "" : fmt::format(" ({})", call.context);
}

class CheckedCommunicator : public Communicator {
 public:
  explicit CheckedCommunicator(std::shared_ptr<Communicator> inner)
      : Communicator(Before{*inner}), inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int WorldRank(int rank) const override { return inner_->WorldRank(rank); }
  std::string LogName() const override { return inner_->LogName(); }

  std::unique_ptr<Communicator> Split(int color) override {
    Check("split");
    return std::make_unique<CheckedCommunicator>(inner_->Split(color));
  }
  Request AllReduceSum(Tensor tensor) override {
    Check("all_reduce_sum " + TextOf(tensor));
    return inner_->AllReduceSum(std::move(tensor));
  }
  Request ReduceScatterSum(Tensor in, Tensor out) override {
    Check(fmt::format("reduce_scatter_sum {} into {}", TextOf(in), TextOf(out)));
    return inner_->ReduceScatterSum(std::move(in), std::move(out));
  }
  Request AllGatherInto(Tensor in, Tensor out) override {
    Check(fmt::format("all_gather_into {} into {}", TextOf(in), TextOf(out)));
    return inner_->AllGatherInto(std::move(in), std::move(out));
  }
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override {
    const size_t rounds = send_rows.size() / static_cast<size_t>(size());
    Check(fmt::format("all_to_all_rows {}{}", TextOf(in, /*rows=*/true),
                      rounds > 1 ? fmt::format(" in {} rounds", rounds) : ""),
          send_rows, receive_rows);
    return inner_->AllToAllRows(std::move(in), std::move(send_rows), std::move(out),
                                std::move(receive_rows));
  }
  Request Broadcast(Tensor tensor, int root) override {
    Check(fmt::format("broadcast {} from {}", TextOf(tensor), root));
    return inner_->Broadcast(std::move(tensor), root);
  }
  Request AllGather(std::string bytes, std::vector<std::string>* all) override {
    Check("all_gather of text");
    return inner_->AllGather(std::move(bytes), all);
  }
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override {
    Check("all_to_all of text");
    return inner_->AllToAll(std::move(sent), received);
  }
  Request Barrier() override {
    Check("barrier");
    return inner_->Barrier();
  }
  void Poll() override { inner_->Poll(); }
  void Abort(int exit_code) override { inner_->Abort(exit_code); }

 private:
  void Check(std::string what, const std::vector<int64_t>& send_rows = {},
             const std::vector<int64_t>& receive_rows = {});
  std::vector<Call> Gather(const Call& mine);
  void CheckSame(const std::vector<Call>& calls) const;
  void CheckRowCounts(const std::vector<Call>& calls) const;
  [[noreturn]] void Fail(const std::string& difference) const {
    throw CommunicationError(fmt::format("{}: collective #{} of {} differs among ranks: {}", Self(),
                                         sequence_, name(), difference));
  }

  std::shared_ptr<Communicator> inner_;
  int64_t sequence_ = -1;
};

void CheckedCommunicator::Check(std::string what, const std::vector<int64_t>& send_rows,
                                const std::vector<int64_t>& receive_rows) {
  if (size() == 1) return;
  ++sequence_;
  const char* module = ModuleRange::Current();
  std::string context = log().context();
  if (module != nullptr) context += (context.empty() ? "" : ", ") + std::string(module);
  const std::vector<Call> calls =
      Gather({std::move(what), send_rows, receive_rows, std::move(context)});
  CheckSame(calls);
  CheckRowCounts(calls);
}

std::vector<Call> CheckedCommunicator::Gather(const Call& mine) {
  std::vector<Call> calls;
  try {
    for (const std::string& text :
         AllGatherNow(*inner_, ToJson(mine).dump(), AfterSeconds(timeout_seconds())))
      calls.push_back(FromJson(json::parse(text)));
  } catch (const CommunicationError& error) {
    throw CommunicationError(fmt::format("{}; this rank calls {} as collective #{} of {}{}",
                                         error.what(), mine.what, sequence_, name(), Where(mine)));
  } catch (const json::exception&) {
    Fail("what another rank sent is no call of a collective: its LACUNA_CHECK_COLLECTIVES differs");
  }
  return calls;
}

void CheckedCommunicator::CheckSame(const std::vector<Call>& calls) const {
  std::map<std::string, std::vector<int>> ranks_of;
  for (int r = 0; r < size(); ++r)
    ranks_of[calls[static_cast<size_t>(r)].what].push_back(WorldRank(r));
  if (ranks_of.size() == 1) return;
  // The fewest first: they are those to look at.
  std::vector<std::pair<std::vector<int>, std::string>> groups;
  for (const auto& [what, ranks] : ranks_of) groups.emplace_back(ranks, what);
  std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
    return a.first.size() < b.first.size() ||
           (a.first.size() == b.first.size() && a.first.front() > b.first.front());
  });
  std::vector<std::string> parts;
  for (const auto& [ranks, what] : groups) {
    const auto call = std::find_if(calls.begin(), calls.end(),
                                   [&what = what](const Call& one) { return one.what == what; });
    parts.push_back(fmt::format("rank{} {} call{} {}{}", ranks.size() == 1 ? "" : "s",
                                fmt::join(ranks, ", "), ranks.size() == 1 ? "s" : "", what,
                                Where(*call)));
  }
  Fail(fmt::format("{}", fmt::join(parts, "; ")));
}

void CheckedCommunicator::CheckRowCounts(const std::vector<Call>& calls) const {
  const auto n = static_cast<size_t>(size());
  const size_t numbers = calls.front().send_rows.size();
  for (const Call& call : calls) {
    // None of rows, or a misuse that the inner communicator names.
    if (numbers % n != 0 || call.send_rows.size() != numbers || call.receive_rows.size() != numbers)
      return;
  }
  for (size_t i = 0; i < numbers * n; ++i) {
    const size_t from = i / numbers, to = i % n, round = i % numbers / n;
    const int64_t sent = calls[from].send_rows[round * n + to],
                  expected = calls[to].receive_rows[round * n + from];
    if (sent == expected) continue;
    Fail(fmt::format("{}: rank {} sends {} rows to rank {}{}, which expects {}{}", calls[from].what,
                     WorldRank(static_cast<int>(from)), sent, WorldRank(static_cast<int>(to)),
                     Where(calls[from]), expected, Where(calls[to])));
  }
}

}  // namespace

std::shared_ptr<Communicator> MakeCheckedCommunicator(std::shared_ptr<Communicator> inner) {
  return std::make_shared<CheckedCommunicator>(std::move(inner));
}

bool ChecksCollectives() {
  const char* value = std::getenv("LACUNA_CHECK_COLLECTIVES");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace lacuna
