// Ranks that stop, compute for ever or call another collective, under mpirun: the others name them
// within the timeout and the run ends with exit code 5. LACUNA_HANG_DEVICE=cuda has the same of
// tensors on cards.
#include "distributed/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "core/io/file.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

struct Outcome {
  int code = -1;
  double seconds = 0;
  std::string text;
};

std::string Environment(const char* name, const char* otherwise = nullptr) {
  const char* value = std::getenv(name);
  LACUNA_CHECK(value != nullptr || otherwise != nullptr, "{} is not set", name);
  return value != nullptr ? value : otherwise;
}

bool OnCards() {
  return Environment("LACUNA_HANG_DEVICE", "cpu") == "cuda";
}
int NumRanks() {
  return std::atoi(Environment("LACUNA_HANG_RANKS", "3").c_str());
}

// The last of the ranks has the fault.
Outcome Steps(const std::string& fault, const std::string& environment) {
  const test::TempDir dir;
  const std::string log = dir / "log";
  const SteadyClock::time_point start = SteadyClock::now();
  // `timeout` ends what hangs, so that the test fails instead.
  const int status = std::system(
      fmt::format("{} timeout -s KILL 100 {} --allow-run-as-root --oversubscribe --bind-to none -n "
                  "{} {} {} {} {} >{} 2>&1",
                  environment, Environment("LACUNA_MPIEXEC"), NumRanks(),
                  Environment("LACUNA_HANG_STEPS"), Environment("LACUNA_HANG_DEVICE", "cpu"), fault,
                  NumRanks() - 1, log)
          .c_str());
  Outcome outcome;
  outcome.seconds = SecondsSince(start);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.text = *ReadFile(log, 1 << 20, ExitCode::kData);
  return outcome;
}

// Ranks start within the timeout: NCCL takes seconds to.
std::string Timeout() {
  return fmt::format("LACUNA_TIMEOUT_SECONDS={}", OnCards() ? 20 : 4);
}
// The timeout is not met where a difference is found.
constexpr char kChecks[] = "LACUNA_CHECK_COLLECTIVES=1 LACUNA_TIMEOUT_SECONDS=60";
// The start of the ranks, the timeout, the answers, the end of the ranks.
double Within() {
  return OnCards() ? 60 : 40;
}

void ExpectNamed(const Outcome& outcome, const std::vector<std::string>& texts) {
  EXPECT_EQ(outcome.code, 5) << outcome.text;
  EXPECT_LT(outcome.seconds, Within());
  for (const std::string& text : texts) EXPECT_THAT(outcome.text, HasSubstr(text));
  EXPECT_EQ(outcome.text.find("done"), std::string::npos) << outcome.text;
}

std::string Faulty() {
  return fmt::format("rank {}", NumRanks() - 1);
}

TEST(Watchdog, AStoppedRankIsNamed) {
  ExpectNamed(Steps("stop", Timeout()), {"all_reduce_sum #2", "in step 3, layer 3 attention",
                                         Faulty() + " does not answer: stopped, dead or cut off"});
}

TEST(Watchdog, ARankThatComputesForEverIsNamed) {
  ExpectNamed(Steps("spin", Timeout()),
              {"all_reduce_sum #2", "in step 3, layer 3 attention",
               Faulty() + " has not come to it (step 3), its last is all_reduce_sum #1 of group",
               "(step 2, layer 3 attention), and it waits in no collective"});
}

TEST(Watchdog, ARankThatLeftACollectiveOutIsNamed) {
  // Whoever's wait ends first tells it from its side.
  ExpectNamed(Steps("skip", Timeout()), {Faulty(), "all_reduce_sum #2", "barrier #",
                                         " has not come to it (step 3)", "and it waits in "});
}

TEST(Watchdog, ALateRankIsNoFault) {
  const Outcome outcome = Steps("late", Timeout());
  EXPECT_EQ(outcome.code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("step 5 done"));
}

TEST(CheckedCollectives, AnotherCollectiveIsNamed) {
  ExpectNamed(Steps("other", kChecks),
              {"collective #2 of group differs among ranks: " + Faulty() + " calls broadcast f32 " +
                   "[5000] on " + Environment("LACUNA_HANG_DEVICE", "cpu") +
                   " from 0 (step 3, layer 3 attention); rank",
               "all_reduce_sum f32 [5000]"});
}

TEST(CheckedCollectives, AnotherSizeIsNamed) {
  ExpectNamed(Steps("size", kChecks), {"collective #2 of group differs among ranks: " + Faulty() +
                                           " calls all_reduce_sum f32 [6000]",
                                       "all_reduce_sum f32 [5000]"});
}

TEST(CheckedCollectives, ACollectiveLeftOutIsNamed) {
  // It meets the others in its barrier, which is of another communicator: nobody comes to that.
  ExpectNamed(Steps("skip", "LACUNA_CHECK_COLLECTIVES=1 " + Timeout()),
              {Faulty(), "this rank calls ", "(step 3", " has not come to it (step 3)"});
}

TEST(CheckedCollectives, NothingIsWrongWithARightRun) {
  const Outcome outcome = Steps("late", kChecks);
  EXPECT_EQ(outcome.code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("step 5 done"));
}

TEST(Watchdog, ATimeoutThatIsNoNumberIsRefused) {
  const Outcome outcome = Steps("late", "LACUNA_TIMEOUT_SECONDS=soon");
  EXPECT_NE(outcome.code, 0);
  EXPECT_THAT(outcome.text, HasSubstr("LACUNA_TIMEOUT_SECONDS=soon: expected seconds above 0"));
}

}  // namespace
}  // namespace lacuna
