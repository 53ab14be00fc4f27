#include "distributed/background_save.h"

#include <utility>

#include "core/parallel.h"

namespace lacuna {

BackgroundSave::~BackgroundSave() {
  stop_ = true;
  if (work_.valid()) work_.wait();
}

void BackgroundSave::Start(std::function<absl::Status()> work) {
  work_ = std::async(std::launch::async, [this, work = std::move(work)] {
    MakeThisThreadSerial();
    const SteadyClock::time_point begin = SteadyClock::now();
    const absl::Status status = work();
    work_seconds_ += SecondsSince(begin);
    return status;
  });
}

absl::Status BackgroundSave::Begin(int64_t step, const TrainingState& state,
                                   StateSnapshot& snapshot, double* copy_seconds) {
  LACUNA_CHECK(!under_way(), "a save begins while one is under way");
  LACUNA_ASSIGN_OR_RETURN(SaveAttempt attempt, writer_.Begin(step, state));
  const SteadyClock::time_point begin = SteadyClock::now();
  state_ = snapshot.Take(writer_.ShareOf(state));
  *copy_seconds = SecondsSince(begin);
  attempt_ = std::move(attempt);
  committing_ = false;
  work_seconds_ = 0;
  Start([this] { return writer_.WriteShare(*attempt_, state_, &stop_, &record_); });
  return absl::OkStatus();
}

bool BackgroundSave::Ready() const {
  return !work_.valid() || work_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

std::optional<absl::StatusOr<SaveReport>> BackgroundSave::Advance() {
  if (!under_way()) return std::nullopt;
  const absl::Status mine = work_.valid() ? work_.get() : absl::OkStatus();
  if (!committing_) {
    absl::StatusOr<std::vector<std::string>> records =
        writer_.GatherRecords(*attempt_, mine, record_);
    if (!records.ok()) {
      attempt_.reset();
      return records.status();
    }
    records_ = *std::move(records);
    committing_ = true;
    if (writer_.rank() == 0) Start([this] { return writer_.Commit(state_, records_, &*attempt_); });
    return std::nullopt;
  }
  absl::StatusOr<SaveReport> report = writer_.End(*std::exchange(attempt_, std::nullopt), mine);
  if (report.ok()) report->seconds = work_seconds_;
  return report;
}

absl::StatusOr<SaveReport> BackgroundSave::Finish() {
  LACUNA_CHECK(under_way(), "no save is under way");
  while (true) {
    if (work_.valid()) work_.wait();
    if (std::optional<absl::StatusOr<SaveReport>> outcome = Advance()) return *std::move(outcome);
  }
}

}  // namespace lacuna
