#include "tests/support/mutations.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/io/file.h"

namespace lacuna::test {
namespace {

constexpr size_t kMaxComplaints = 20;
constexpr unsigned kSeconds = 10;

enum class Outcome : char { kNone, kRefused, kAccepted, kOtherError };  // kNone: the child ended

std::string Mutate(std::string bytes, const Mutation& mutation) {
  switch (mutation.kind) {
    case Mutation::Kind::kFlip:
      bytes[mutation.at] = static_cast<char>(bytes[mutation.at] ^ (1 << mutation.bit));
      break;
    case Mutation::Kind::kZero:
      bytes[mutation.at] = '\0';
      break;
    case Mutation::Kind::kTruncate:
      bytes.resize(mutation.at);
      break;
  }
  return bytes;
}

std::string Describe(const Mutation& mutation) {
  switch (mutation.kind) {
    case Mutation::Kind::kFlip:
      return fmt::format("bit {} of byte {} flipped", mutation.bit, mutation.at);
    case Mutation::Kind::kZero:
      return fmt::format("byte {} zeroed", mutation.at);
    case Mutation::Kind::kTruncate:
      break;
  }
  return fmt::format("cut to {} bytes", mutation.at);
}

void Put(FileDescriptor& file, const std::string& bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  LACUNA_CHECK(file.Truncate(size).ok() && file.WriteAt(0, bytes.data(), size).ok(),
               "{} cannot be written", file.path());
}

Outcome Judge(const absl::Status& status, ExitCode code, const std::string& path) {
  if (status.ok()) return Outcome::kAccepted;
  const std::string message = Message(status);
  const bool good = ExitCodeOf(status) == code && message.find('\n') == std::string::npos &&
                    message.find(path) != std::string::npos;
  return good ? Outcome::kRefused : Outcome::kOtherError;
}

std::string HowItEnded(int status) {
  if (!WIFSIGNALED(status)) return fmt::format("ended with exit code {}", WEXITSTATUS(status));
  if (WTERMSIG(status) == SIGALRM) return fmt::format("took more than {} s", kSeconds);
  return fmt::format("crashed with signal {}", WTERMSIG(status));
}

}  // namespace

void AddMutations(const std::string& bytes, size_t at, std::vector<Mutation>* mutations) {
  for (int bit = 0; bit < 8; ++bit) mutations->push_back({Mutation::Kind::kFlip, at, bit});
  if (bytes[at] != '\0') mutations->push_back({Mutation::Kind::kZero, at, 0});
  mutations->push_back({Mutation::Kind::kTruncate, at, 0});
}

std::vector<std::string> SweepMutations(
    const std::string& bytes, const std::vector<Mutation>& mutations, ExitCode code,
    const std::function<absl::Status(const std::string& path)>& open) {
  LACUNA_CHECK(!mutations.empty(), "nothing to try");
  // On a disk, tens of thousands of these would take minutes.
  const int fd = ::memfd_create("mutation", 0);
  FileDescriptor file(fd, fmt::format("/proc/self/fd/{}", fd), code);
  const size_t count = mutations.size();
  void* shared = ::mmap(nullptr, count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  LACUNA_CHECK(shared != MAP_FAILED, "out of memory");
  const std::span outcomes(static_cast<Outcome*>(shared), count);
  std::vector<std::string> complaints;
  for (size_t begin = 0; begin < count && complaints.size() < kMaxComplaints;) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (size_t i = begin; i < count; ++i) {
        ::alarm(kSeconds);
        Put(file, Mutate(bytes, mutations[i]));
        outcomes[i] = Judge(open(file.path()), code, file.path());
      }
      ::_exit(0);
    }
    int status = 0;
    LACUNA_CHECK(child > 0 && ::waitpid(child, &status, 0) == child, "no child process");
    size_t i = begin;
    for (; i < count && outcomes[i] != Outcome::kNone; ++i) {
      if (outcomes[i] == Outcome::kRefused || complaints.size() >= kMaxComplaints) continue;
      complaints.push_back(Describe(mutations[i]) + (outcomes[i] == Outcome::kAccepted
                                                         ? ": accepted"
                                                         : ": refused with another error"));
    }
    if (i < count) complaints.push_back(Describe(mutations[i]) + ": " + HowItEnded(status));
    begin = i + 1;
  }
  ::munmap(shared, count);
  return complaints;
}

}  // namespace lacuna::test
