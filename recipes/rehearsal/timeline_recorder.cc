#include "recipes/rehearsal/timeline_recorder.h"

#include "core/error.h"
#include "core/stream.h"

namespace lacuna {

void TimelineRecorder::BeginStep() {
  marks_.Clear();
  points_.clear();
  first_launch_ = launches_;
  in_step_ = true;
  begin_ = loaded_ = marks_.Set();
}

void TimelineRecorder::Loaded() {
  loaded_ = marks_.Set();
}

int64_t TimelineRecorder::Launched(const Collective& collective) {
  if (!in_step_) return -1;
  Add(Point::Kind::kLaunch, collective, launches_);
  return launches_++;
}

void TimelineRecorder::Copied(int64_t number) {
  if (in_step_) Add(Point::Kind::kCopied, {}, number);
}

void TimelineRecorder::Waited(int64_t number) {
  // What was launched before the step is none of its business.
  if (in_step_ && number >= first_launch_) Add(Point::Kind::kWait, {}, number);
}

StepTimeline TimelineRecorder::EndStep() {
  const int64_t end = marks_.Set();
  in_step_ = false;
  Synchronize(ComputeStream(device_));
  StepTimeline timeline;
  std::vector<TimelinePhase> phases(1);
  struct Place {
    int64_t phase, launch;
  };
  std::vector<Place> places;  // of the launches, in order
  int64_t in_phase = 0, before = loaded_;
  copies_ = 0;
  const auto work_until = [&](int64_t mark) {
    TimelineItem item;
    item.seconds = marks_.Seconds(before, mark);
    phases.back().push_back(item);
    before = mark;
  };
  for (const Point& point : points_) {
    if (point.kind == Point::Kind::kCopied) {
      copies_ += marks_.Seconds(before, point.mark);
      before = point.mark;
      continue;
    }
    work_until(point.mark);
    if (point.kind == Point::Kind::kPhase) {
      phases.emplace_back();
      in_phase = 0;
      continue;
    }
    TimelineItem item;
    const auto phase = static_cast<int64_t>(phases.size()) - 1;
    if (point.kind == Point::Kind::kLaunch) {
      item.kind = TimelineItem::Kind::kLaunch;
      item.collective = point.collective;
      places.push_back({phase, in_phase++});
    } else {
      const Place& place = places[static_cast<size_t>(point.number - first_launch_)];
      item.kind = TimelineItem::Kind::kWait;
      item.launch = place.launch;
      item.phases_back = phase - place.phase;
    }
    phases.back().push_back(item);
  }
  work_until(end);
  LACUNA_CHECK(phases.size() >= 3, "a step of {} phases", phases.size());
  timeline.begin = std::move(phases.front());
  timeline.end = std::move(phases.back());
  timeline.micro_batches.assign(std::make_move_iterator(phases.begin() + 1),
                                std::make_move_iterator(phases.end() - 1));
  timeline.loading =
      marks_.Seconds(begin_, loaded_) / static_cast<double>(timeline.micro_batches.size());
  return timeline;
}

}  // namespace lacuna
