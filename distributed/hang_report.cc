#include "distributed/hang_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace lacuna {
namespace {

std::string In(const std::string& context) {
  return context.empty() ? "" : fmt::format(" ({})", context);
}

std::string Ranks(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

// Of a member that has not come to the operation.
std::string Missing(const PeerState& peer) {
  std::string text = fmt::format("rank {} has not come to it{}", peer.rank, In(peer.context));
  text += peer.last.empty() ? ", nor to any before it" : fmt::format(", its last is {}", peer.last);
  text += peer.waits.empty() ? ", and it waits in no collective"
                             : fmt::format(", and it waits in {}", peer.waits);
  return text;
}

}  // namespace

std::string HangReport(const OperationLog::Operation& operation,
                       const std::vector<PeerState>& peers) {
  const std::string own = Describe(operation);
  const std::vector<int>& members = *operation.ranks;
  std::vector<int> silent, waiting;
  std::vector<std::string> to_blame;
  for (const PeerState& peer : peers) {
    const bool member = std::find(members.begin(), members.end(), peer.rank) != members.end();
    if (!peer.answers) {
      silent.push_back(peer.rank);
    } else if (!member) {
      continue;
    } else if (!peer.started) {
      to_blame.push_back(Missing(peer));
    } else if (*peer.started != own) {
      to_blame.push_back(
          fmt::format("rank {} has {}{} in its place", peer.rank, *peer.started, In(peer.context)));
    } else if (peer.queued) {
      to_blame.push_back(
          fmt::format("rank {}'s device is still at work on what comes before it", peer.rank));
    } else {
      waiting.push_back(peer.rank);
    }
  }
  std::vector<std::string> parts;
  if (!operation.context.empty()) parts.push_back("in " + operation.context);
  if (!silent.empty()) {
    parts.push_back(fmt::format("{} {} not answer: stopped, dead or cut off", Ranks(silent),
                                silent.size() == 1 ? "does" : "do"));
  }
  parts.insert(parts.end(), to_blame.begin(), to_blame.end());
  if (!waiting.empty()) {
    parts.push_back(
        fmt::format("{} {} in it, too", Ranks(waiting), waiting.size() == 1 ? "is" : "are"));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

PeerState StateOfThisRank(OperationLog& log, int rank, const std::string& communicator,
                          int64_t sequence) {
  PeerState state;
  state.rank = rank;
  state.answers = true;
  state.context = log.context();
  const std::vector<OperationLog::Operation> started = log.Started(communicator);
  for (const OperationLog::Operation& one : started) {
    if (one.sequence == sequence) state.started = Describe(one);
  }
  if (!started.empty()) {
    const OperationLog::Operation& last = started.back();
    state.last = Describe(last) + In(last.context);
    // It is long past it.
    if (!state.started && last.sequence > sequence) state.started = state.last;
  }
  state.queued = log.IsQueued(communicator, sequence);
  if (const auto oldest = log.Oldest()) {
    state.waits = fmt::format("{}{} for {:.1f} s", Describe(*oldest), In(oldest->context),
                              SecondsSince(oldest->since));
  }
  return state;
}

}  // namespace lacuna
