#include "distributed/watchdog.h"

#include <atomic>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "core/host_name.h"
#include "distributed/datagram_socket.h"
#include "distributed/hang_report.h"

namespace lacuna {
namespace {

using nlohmann::json;

// A rank that is there answers in milliseconds; one that computes with all cores may take longer.
constexpr double kAnswerSeconds = 2, kAskAgainSeconds = 0.25;
// How long the thread sleeps at most.
constexpr double kTickSeconds = 0.1;

json ToJson(const PeerState& state) {
  json text = {{"rank", state.rank},
               {"context", state.context},
               {"last", state.last},
               {"queued", state.queued},
               {"waits", state.waits}};
  if (state.started) text["started"] = *state.started;
  return text;
}
PeerState FromJson(const json& text) {
  PeerState state;
  state.rank = text.at("rank");
  state.answers = true;
  state.context = text.at("context");
  if (text.contains("started")) state.started = text.at("started");
  state.last = text.at("last");
  state.queued = text.at("queued");
  state.waits = text.at("waits");
  return state;
}

// Null for what is not of this run.
json Parse(const std::string& text, const std::string& token) {
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool ours = parsed.is_object() && parsed.value("token", "") == token;
  return ours ? parsed : json();
}

}  // namespace

class Watchdog::Service {
 public:
  Service(Communicator& world, std::function<void(const std::string&)> on_hang)
      : log_(world.log()),
        rank_(world.rank()),
        self_(world.Self()),
        timeout_seconds_(world.timeout_seconds()),
        on_hang_(std::move(on_hang)) {
    ExchangeAddresses(world);
    log_.SetDiagnosis([this](const OperationLog::Operation& one) { return Diagnose(one); });
    thread_ = std::thread([this] { Run(); });
  }
  ~Service() {
    log_.SetDiagnosis(nullptr);
    stop_ = true;
    thread_.join();
  }

 private:
  void ExchangeAddresses(Communicator& world) {
    const DatagramAddress own = socket_.address();
    const std::string host = HostName();
    const json mine = {{"host", host},
                       {"ips", own.ips},
                       {"port", own.port},
                       {"token", std::to_string(std::random_device()())}};
    for (const std::string& one :
         AllGatherNow(world, mine.dump(), AfterSeconds(world.timeout_seconds()))) {
      const json text = json::parse(one);
      token_ += text.at("token").get<std::string>() + " ";
      addresses_.push_back({text.at("ips"), text.at("port")});
      if (text.at("host") == host) addresses_.back().ips = {"127.0.0.1"};
    }
  }

  void Run() {
    try {
      while (!stop_) {
        if (const auto asked = socket_.Receive(kTickSeconds)) Answer(*asked);
        const auto hung = log_.Overdue(timeout_seconds_);
        if (!hung) continue;
        on_hang_(fmt::format("{}: {}: the device has been in it for more than {:.1f} s; {}", self_,
                             Describe(*hung), timeout_seconds_, Diagnose(*hung)));
        return;
      }
    } catch (const std::exception& error) {
      on_hang_(fmt::format("{}: watchdog: {}", self_, error.what()));
    }
  }

  void Answer(const DatagramSocket::Datagram& asked) {
    const json question = Parse(asked.text, token_);
    if (question.is_null() || !question.contains("communicator")) return;
    json answer =
        ToJson(StateOfThisRank(log_, rank_, question.at("communicator"), question.at("sequence")));
    answer["token"] = token_;
    socket_.Reply(answer.dump(), asked);
  }

  // By any thread: asks through a socket of its own.
  std::string Diagnose(const OperationLog::Operation& operation) const {
    DatagramSocket socket;
    const std::string question = json{
        {"token", token_},
        {"communicator", operation.communicator},
        {"sequence",
         operation.sequence}}.dump();
    std::vector<PeerState> peers(addresses_.size());
    for (size_t r = 0; r < peers.size(); ++r) peers[r].rank = static_cast<int>(r);
    const auto own = peers.begin() + rank_;
    size_t missing = peers.size() - 1;
    const Deadline deadline = AfterSeconds(kAnswerSeconds);
    while (missing > 0 && SteadyClock::now() < deadline) {
      for (const PeerState& peer : peers) {
        if (!peer.answers && peer.rank != rank_)
          socket.Send(question, addresses_[static_cast<size_t>(peer.rank)]);
      }
      const Deadline again = AfterSeconds(kAskAgainSeconds);
      while (missing > 0 && SteadyClock::now() < again) {
        const auto answer = socket.Receive(kAskAgainSeconds / 5);
        if (!answer) continue;
        const json text = Parse(answer->text, token_);
        if (text.is_null() || !text.contains("rank")) continue;
        PeerState state = FromJson(text);
        PeerState& place = peers.at(static_cast<size_t>(state.rank));
        missing -= place.answers ? 0 : 1;
        place = std::move(state);
      }
    }
    peers.erase(own);
    return HangReport(operation, peers);
  }

  OperationLog& log_;
  int rank_;
  std::string self_;
  double timeout_seconds_;
  std::function<void(const std::string&)> on_hang_;
  DatagramSocket socket_;
  std::string token_;                       // of the run
  std::vector<DatagramAddress> addresses_;  // of the ranks
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

Watchdog::Watchdog(Communicator& world, std::function<void(const std::string&)> on_hang) {
  if (world.size() > 1) service_ = std::make_unique<Service>(world, std::move(on_hang));
}

Watchdog::~Watchdog() = default;

}  // namespace lacuna
