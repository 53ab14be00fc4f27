// Records a step as a timeline (recipes/rehearsal/timeline.h): the compute stream is marked where a
// collective is launched, where its local copies end and where it is waited for. Copies are no
// compute. The training step says where micro-batches begin and end.
#pragma once

#include <vector>

#include "recipes/rehearsal/stream_marks.h"
#include "recipes/rehearsal/timeline.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {

class TimelineRecorder : public CollectiveRecorder, public StepObserver {
 public:
  explicit TimelineRecorder(Device device) : device_(device), marks_(device) {}

  void BeginStep();
  // The batches are there.
  void Loaded();
  // Waits for the device.
  StepTimeline EndStep();

  // Seconds of the last step's local copies.
  double copies() const { return copies_; }

  int64_t Launched(const Collective& collective) override;
  void Copied(int64_t number) override;
  void Waited(int64_t number) override;
  void MicroBatchBegins() override { BeginPhase(); }
  void MicroBatchesEnd() override { BeginPhase(); }

 private:
  // A point of the step; the time since the point before it is compute, or a copy.
  struct Point {
    enum class Kind { kLaunch, kCopied, kWait, kPhase };
    Kind kind;
    int64_t mark;
    Collective collective;
    int64_t number;  // of the collective
  };
  void Add(Point::Kind kind, const Collective& collective, int64_t number) {
    points_.push_back({kind, marks_.Set(), collective, number});
  }

  void BeginPhase() { Add(Point::Kind::kPhase, {}, 0); }

  Device device_;
  StreamMarks marks_;
  bool in_step_ = false;
  int64_t begin_ = 0, loaded_ = 0;
  int64_t launches_ = 0, first_launch_ = 0;  // of all steps, of this one
  std::vector<Point> points_;
  double copies_ = 0;
};

}  // namespace lacuna
