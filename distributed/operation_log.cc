#include "distributed/operation_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "core/io/file.h"
#include "core/profile_range.h"

namespace lacuna {

int64_t OperationLog::Begin(Operation operation, DeviceState state) {
  operation.since = SteadyClock::now();
  const char* module = ModuleRange::Current();
  const std::lock_guard lock(mutex_);
  operation.context = context_;
  if (module != nullptr) operation.context += (context_.empty() ? "" : ", ") + std::string(module);
  std::deque<Operation>& started = started_[operation.communicator];
  started.push_back(operation);
  if (started.size() > kKept) started.pop_front();
  unfinished_.push_back({next_id_, std::move(operation), std::move(state), std::nullopt});
  return next_id_++;
}

void OperationLog::End(int64_t id) {
  const std::lock_guard lock(mutex_);
  unfinished_.remove_if([id](const Unfinished& one) { return one.id == id; });
}

void OperationLog::SetContext(std::string context) {
  const std::lock_guard lock(mutex_);
  context_ = std::move(context);
}

std::string OperationLog::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

void OperationLog::DropDone() {
  unfinished_.remove_if(
      [](const Unfinished& one) { return one.state && one.state() == OnDevice::kDone; });
}

std::optional<OperationLog::Operation> OperationLog::Oldest() {
  const std::lock_guard lock(mutex_);
  DropDone();
  if (unfinished_.empty()) return std::nullopt;
  return unfinished_.front().operation;
}

std::optional<OperationLog::Operation> OperationLog::Find(int64_t id) const {
  const std::lock_guard lock(mutex_);
  for (const Unfinished& one : unfinished_) {
    if (one.id == id) return one.operation;
  }
  return std::nullopt;
}

std::optional<OperationLog::Operation> OperationLog::Overdue(double seconds) {
  const std::lock_guard lock(mutex_);
  DropDone();
  // A communicator's operations are done one after the other: only its first one is running.
  std::set<std::string> seen;
  for (Unfinished& one : unfinished_) {
    if (!one.state || !seen.insert(one.operation.communicator).second) continue;
    if (one.state() != OnDevice::kRunning) continue;
    if (!one.running_since) one.running_since = SteadyClock::now();
    if (SecondsSince(*one.running_since) > seconds) return one.operation;
  }
  return std::nullopt;
}

std::vector<OperationLog::Operation> OperationLog::Started(const std::string& communicator) const {
  const std::lock_guard lock(mutex_);
  const auto found = started_.find(communicator);
  if (found == started_.end()) return {};
  return {found->second.begin(), found->second.end()};
}

bool OperationLog::IsQueued(const std::string& communicator, int64_t sequence) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(unfinished_.begin(), unfinished_.end(), [&](const Unfinished& one) {
    return one.operation.communicator == communicator && one.operation.sequence == sequence &&
           one.state && one.state() == OnDevice::kQueued;
  });
}

void OperationLog::SetDiagnosis(Diagnosis diagnosis) {
  const std::lock_guard lock(mutex_);
  diagnosis_ = std::move(diagnosis);
}

std::string OperationLog::Diagnose(int64_t id) const {
  const std::optional<Operation> operation = Find(id);
  Diagnosis diagnosis;
  {
    const std::lock_guard lock(mutex_);
    diagnosis = diagnosis_;
  }
  return operation && diagnosis ? diagnosis(*operation) : "";
}

std::string Describe(const OperationLog::Operation& operation) {
  return fmt::format("{} #{} of {} ({})", operation.name, operation.sequence,
                     operation.communicator, FormatBytes(operation.bytes));
}

}  // namespace lacuna
