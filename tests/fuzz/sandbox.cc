#include "tests/fuzz/sandbox.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>

#include "core/error.h"

namespace lacuna::test {
namespace {

constexpr int64_t kMaxComplaints = 10;
constexpr double kMaxSeconds = 1;   // of processor time; a case that is still at work
constexpr time_t kKillSeconds = 2;  // after so many is killed
constexpr rlim_t kMaxBytes = rlim_t{2} << 30;
constexpr size_t kTextBytes = 1000;

// In memory that parent and child share.
struct Board {
  int64_t next = 0;  // the case under way
  int64_t accepted = 0;
  double slowest_seconds = 0;
  int64_t num_complaints = 0;
  struct {
    int64_t number;
    char text[kTextBytes];
  } complaints[kMaxComplaints];

  void Complain(int64_t number, const std::string& text) {
    if (num_complaints == kMaxComplaints) return;
    auto& slot = complaints[num_complaints++];
    slot.number = number;
    const size_t size = std::min(text.size(), kTextBytes - 1);
    std::memcpy(slot.text, text.data(), size);
    slot.text[size] = '\0';
  }
};

double ProcessorSeconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void RunInChild(Board* board, int64_t count, const std::function<CaseResult(int64_t)>& run,
                unsigned deadline_seconds) {
#ifndef __SANITIZE_ADDRESS__  // whose shadow is larger; its own limit is in ASAN_OPTIONS
  const rlimit memory{kMaxBytes, kMaxBytes};
  ::setrlimit(RLIMIT_AS, &memory);
#endif
  while (board->next < count && board->num_complaints < kMaxComplaints) {
    ::alarm(deadline_seconds);
    const itimerval processor{{0, 0}, {kKillSeconds, 0}};
    ::setitimer(ITIMER_PROF, &processor, nullptr);
    const double before = ProcessorSeconds();
    const CaseResult result = run(board->next);
    const double seconds = ProcessorSeconds() - before;
    board->accepted += result.accepted ? 1 : 0;
    board->slowest_seconds = std::max(board->slowest_seconds, seconds);
    if (!result.complaint.empty()) {
      board->Complain(board->next, result.complaint);
    } else if (seconds > kMaxSeconds) {
      board->Complain(board->next, fmt::format("took {:.1f} s", seconds));
    }
    ++board->next;
  }
}

std::string HowItEnded(int status, unsigned deadline_seconds) {
  if (!WIFSIGNALED(status)) return fmt::format("ended with exit code {}", WEXITSTATUS(status));
  if (WTERMSIG(status) == SIGALRM) return fmt::format("stood for {} s", deadline_seconds);
  if (WTERMSIG(status) == SIGPROF) return fmt::format("took more than {} s", kKillSeconds);
  return fmt::format("crashed: {}", ::strsignal(WTERMSIG(status)));
}

}  // namespace

SandboxReport RunCases(int64_t count, const std::function<CaseResult(int64_t)>& run,
                       unsigned deadline_seconds) {
  void* shared =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  LACUNA_CHECK(shared != MAP_FAILED, "out of memory");
  Board* board = new (shared) Board;
  while (board->next < count && board->num_complaints < kMaxComplaints) {
    const pid_t child = ::fork();
    if (child == 0) {
      RunInChild(board, count, run, deadline_seconds);
      ::_exit(0);
    }
    int status = 0;
    LACUNA_CHECK(child > 0 && ::waitpid(child, &status, 0) == child, "no child process");
    if (status == 0) continue;
    board->Complain(board->next++, HowItEnded(status, deadline_seconds));
  }
  SandboxReport report{.cases = board->next,
                       .accepted = board->accepted,
                       .slowest_seconds = board->slowest_seconds,
                       .complaints = {}};
  for (int64_t i = 0; i < board->num_complaints; ++i)
    report.complaints.push_back({board->complaints[i].number, board->complaints[i].text});
  ::munmap(shared, sizeof(Board));
  return report;
}

}  // namespace lacuna::test
