#include "distributed/operation_log.h"

#include <fmt/format.h>

#include <utility>

#include "core/io/file.h"

namespace lacuna {

int64_t OperationLog::Begin(Operation operation, std::function<bool()> done) {
  operation.since = SteadyClock::now();
  const std::lock_guard lock(mutex_);
  operation.context = context_;
  std::deque<Operation>& started = started_[operation.communicator];
  started.push_back(operation);
  if (started.size() > kKept) started.pop_front();
  unfinished_.push_back({next_id_, std::move(operation), std::move(done)});
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

std::optional<OperationLog::Operation> OperationLog::Oldest() {
  const std::lock_guard lock(mutex_);
  unfinished_.remove_if([](const Unfinished& one) { return one.done && one.done(); });
  if (unfinished_.empty()) return std::nullopt;
  return unfinished_.front().operation;
}

std::vector<OperationLog::Operation> OperationLog::Started(const std::string& communicator) const {
  const std::lock_guard lock(mutex_);
  const auto found = started_.find(communicator);
  if (found == started_.end()) return {};
  return {found->second.begin(), found->second.end()};
}

int64_t OperationLog::AddAbort(std::function<void()> abort) {
  const std::lock_guard lock(mutex_);
  aborts_[next_id_] = std::move(abort);
  return next_id_++;
}

void OperationLog::RemoveAbort(int64_t id) {
  const std::lock_guard lock(mutex_);
  aborts_.erase(id);
}

void OperationLog::AbortWork() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, abort] : aborts_) abort();
}

std::string Describe(const OperationLog::Operation& operation) {
  return fmt::format("{} #{} of {} ({})", operation.name, operation.sequence,
                     operation.communicator, FormatBytes(operation.bytes));
}

}  // namespace lacuna
