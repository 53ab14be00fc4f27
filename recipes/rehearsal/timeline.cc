#include "recipes/rehearsal/timeline.h"

#include <algorithm>
#include <deque>

#include "core/error.h"

namespace lacuna {
namespace {

class Replayer {
 public:
  explicit Replayer(const LinkRates& rates) : rates_(rates) {}

  void Run(const TimelinePhase& phase) {
    // Waits reach back one phase or two: what is older is not kept.
    ends_.emplace_front();
    if (ends_.size() > 3) ends_.pop_back();
    for (const TimelineItem& item : phase) {
      switch (item.kind) {
        case TimelineItem::Kind::kCompute:
          now_ += item.seconds;
          step_.compute += item.seconds;
          break;
        case TimelineItem::Kind::kLaunch: {
          const double seconds = rates_.Seconds(item.collective);
          step_.communication += seconds;
          // The host's own are not on the link.
          if (!item.collective.on_host) link_free_ = std::max(now_, link_free_) + seconds;
          ends_.front().push_back(
              {item.collective.on_host ? now_ : link_free_, item.collective.kind});
          break;
        }
        case TimelineItem::Kind::kWait: {
          const Launched& launched = LaunchOf(item);
          const double exposed = std::max(0.0, launched.end - now_);
          step_.exposed += exposed;
          step_.exposed_of_kind[static_cast<size_t>(launched.kind)] += exposed;
          now_ += exposed;
          break;
        }
      }
    }
  }
  ModelledStep step() const { return step_; }

 private:
  struct Launched {
    double end;
    CollectiveKind kind;
  };
  const Launched& LaunchOf(const TimelineItem& wait) const {
    const auto back = static_cast<size_t>(wait.phases_back),
               launch = static_cast<size_t>(wait.launch);
    LACUNA_CHECK(back < ends_.size() && launch < ends_[back].size(),
                 "timeline: launch {} of {} phases ago is waited for, and not there", wait.launch,
                 wait.phases_back);
    return ends_[back][launch];
  }

  LinkRates rates_;
  double now_ = 0, link_free_ = 0;
  std::deque<std::vector<Launched>> ends_;  // of this phase and those before it
  ModelledStep step_;
};

}  // namespace

double LinkRates::Seconds(const CollectiveRecorder::Collective& collective) const {
  if (collective.on_host) return 0;
  const double rate = collective.kind == CollectiveKind::kAllToAll ? all_to_all : this->collective;
  return latency + collective.link_bytes / rate;
}

namespace {

// The measured micro-batch that stands for number i: the first one sets gradients, the others add to
// them.
const TimelinePhase& MicroBatch(const StepTimeline& timeline, int64_t i) {
  const auto measured = static_cast<int64_t>(timeline.micro_batches.size());
  const int64_t which = i == 0 || measured == 1 ? 0 : 1 + (i - 1) % (measured - 1);
  return timeline.micro_batches[static_cast<size_t>(which)];
}

}  // namespace

ModelledStep Replay(const StepTimeline& timeline, int64_t micro_batches, const LinkRates& rates) {
  LACUNA_CHECK(!timeline.micro_batches.empty(), "timeline: a step without micro-batches");
  Replayer replayer(rates);
  replayer.Run(timeline.begin);
  for (int64_t i = 0; i < micro_batches; ++i) replayer.Run(MicroBatch(timeline, i));
  replayer.Run(timeline.end);
  ModelledStep step = replayer.step();
  step.loading = timeline.loading * static_cast<double>(micro_batches);
  return step;
}

double ComputeOf(const TimelinePhase& phase) {
  double seconds = 0;
  for (const TimelineItem& item : phase) seconds += item.seconds;
  return seconds;
}

void PhaseVolumes::Add(const PhaseVolumes& other) {
  for (size_t k = 0; k < of_kind.size(); ++k) {
    of_kind[k].collectives += other.of_kind[k].collectives;
    of_kind[k].link_bytes += other.of_kind[k].link_bytes;
  }
  on_host += other.on_host;
}

PhaseVolumes VolumesOf(const TimelinePhase& phase) {
  PhaseVolumes volumes;
  for (const TimelineItem& item : phase) {
    if (item.kind != TimelineItem::Kind::kLaunch) continue;
    volumes.on_host += item.collective.on_host;
    if (item.collective.on_host) continue;
    PhaseVolumes::Volume& volume = volumes.of_kind[static_cast<size_t>(item.collective.kind)];
    ++volume.collectives;
    volume.link_bytes += item.collective.link_bytes;
  }
  return volumes;
}

PhaseVolumes VolumesOf(const StepTimeline& timeline, int64_t micro_batches) {
  PhaseVolumes volumes = VolumesOf(timeline.begin);
  volumes.Add(VolumesOf(timeline.end));
  for (int64_t i = 0; i < micro_batches; ++i) volumes.Add(VolumesOf(MicroBatch(timeline, i)));
  return volumes;
}

}  // namespace lacuna
