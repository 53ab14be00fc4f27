// What a step of one rank would take, had it the other ranks: the work that was measured between the
// collectives is replayed in its order, with collectives that take what a link's rates say.
//
//   t           the compute stream's clock; work moves it on
//   launch      the collective begins at max(t, when the link is free) and holds the link for
//               latency + link bytes / rate: one collective at a time, in the order of launches
//   wait        t becomes the collective's end where that is later; the difference is exposed
//
// A step is `begin`, micro-batches, `end`. The number of micro-batches that is replayed may be
// another than was measured: the first one, then the others again and again.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "distributed/rehearsal_communicator.h"

namespace lacuna {

struct LinkRates {
  double all_to_all = 0;  // bytes/s of a rank's link in all-to-alls
  double collective = 0;  // and in all others ("bus bandwidth")
  double latency = 0;     // seconds of each collective beside its bytes
  double Seconds(const CollectiveRecorder::Collective& collective) const;
};

struct TimelineItem {
  enum class Kind { kCompute, kLaunch, kWait };
  Kind kind = Kind::kCompute;
  double seconds = 0;                         // of compute
  CollectiveRecorder::Collective collective;  // that is launched
  // What is waited for: the launch with this number in a phase, of this phase or of an earlier one.
  int64_t launch = 0;
  int64_t phases_back = 0;
};
using TimelinePhase = std::vector<TimelineItem>;

struct StepTimeline {
  TimelinePhase begin;
  std::vector<TimelinePhase> micro_batches;  // at least one
  TimelinePhase end;
  double loading = 0;  // seconds in which the host reads a micro-batch and the device waits
};

struct ModelledStep {
  double compute = 0;
  double communication = 0;  // the link's time, whether anything runs beside it or not
  double exposed = 0;        // of that, what compute waits for
  // Of that, what was waited for: it may itself have waited for the link behind others.
  std::array<double, kNumCollectiveKinds> exposed_of_kind = {};
  double loading = 0;
  double total() const { return compute + exposed + loading; }
  // Without any overlap.
  double communication_share() const { return communication / (compute + communication); }
  double exposed_share() const { return exposed / total(); }
};
// Throws where micro-batches differ in their numbers of launches and one waits for another's.
ModelledStep Replay(const StepTimeline& timeline, int64_t micro_batches, const LinkRates& rates);

// Seconds of the compute items.
double ComputeOf(const TimelinePhase& phase);

// What a phase sends.
struct PhaseVolumes {
  struct Volume {
    int64_t collectives = 0;
    double link_bytes = 0;
  };
  std::array<Volume, kNumCollectiveKinds> of_kind;  // on the link
  int64_t on_host = 0;                              // collectives of the host alone

  void Add(const PhaseVolumes& other);
};
PhaseVolumes VolumesOf(const TimelinePhase& phase);
// Of a whole step with this number of micro-batches.
PhaseVolumes VolumesOf(const StepTimeline& timeline, int64_t micro_batches);

}  // namespace lacuna
