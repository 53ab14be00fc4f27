// Every input format under random damage: no crash, no hang, no memory without bound, errors of one
// line with a place, and no change accepted that a checksum covers.
//
//   LACUNA_FUZZ_ROUNDS=20 LACUNA_FUZZ_SEED=7 .../fuzz_test      20 times as many cases, other ones
//   LACUNA_FUZZ_CASE=123 .../fuzz_test --gtest_filter=*recipe   that one alone
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "core/io/block_hash.h"
#include "core/parallel.h"
#include "tests/fuzz/mutator.h"
#include "tests/fuzz/sandbox.h"
#include "tests/fuzz/target.h"

namespace lacuna::test {
namespace {

constexpr int64_t kCases = 300;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoll(text, nullptr, 10) : otherwise;
}

const std::vector<FuzzTarget>& Targets() {
  static const std::vector<FuzzTarget> targets = [] {
    SetNumThreads(1);  // a thread pool would not live on in the child processes
    return AllTargets();
  }();
  return targets;
}

struct Case {
  std::string bytes;
  size_t seed = 0;  // the file it was made of
};

Case MakeCase(const FuzzTarget& target, int64_t number) {
  const uint64_t stream[] = {static_cast<uint64_t>(FromEnvironment("LACUNA_FUZZ_SEED", 1)),
                             static_cast<uint64_t>(number),
                             XXH3_64bits(target.name.data(), target.name.size())};
  std::mt19937_64 random(XXH3_64bits(stream, sizeof(stream)));
  const size_t seed = random() % target.seeds.size();
  const std::string& other = target.seeds[random() % target.seeds.size()];
  return {Mutate(target.seeds[seed], other, target.words, random), seed};
}

// Why the reading of a changed file is not as it must be; empty where it is.
std::string Complain(const FuzzTarget& target, const Reading& reading,
                     const std::string& contents_before) {
  if (!reading.status.ok()) {
    const std::string message = Message(reading.status);
    if (ExitCodeOf(reading.status) != target.code)
      return fmt::format("exit code {}: {}", static_cast<int>(ExitCodeOf(reading.status)), message);
    // One line, or a list: a line that counts, and one indented line each.
    for (size_t end = message.find('\n'); end != std::string::npos;
         end = message.find('\n', end + 1)) {
      if (message.compare(end + 1, 2, "  ") != 0) return "more than one line: " + message;
    }
    if (message.find(target.place) == std::string::npos) return "no place: " + message;
    return "";
  }
  if (!reading.broken.empty()) return "accepted, but " + reading.broken;
  switch (target.checksum) {
    case FuzzTarget::Checksum::kNone:
      return "";
    case FuzzTarget::Checksum::kContents:
      return reading.contents == contents_before ? "" : "accepted with other contents";
    case FuzzTarget::Checksum::kFile:
      return "accepted";
  }
  return "";
}

std::string Explain(const FuzzTarget& target, int64_t number, const std::string& text) {
  const std::string path = (std::filesystem::temp_directory_path() /
                            fmt::format("lacuna_fuzz_{}_{}", target.name, number))
                               .string();
  PutFile(path, MakeCase(target, number).bytes);
  return fmt::format("case {} ({}): {}", number, path, text);
}

class Fuzz : public testing::TestWithParam<std::string> {};

TEST_P(Fuzz, DamageIsRefusedOrHarmless) {
  const FuzzTarget& target =
      *std::find_if(Targets().begin(), Targets().end(),
                    [](const FuzzTarget& candidate) { return candidate.name == GetParam(); });
  std::vector<std::string> contents;
  for (const std::string& seed : target.seeds) {
    const Reading reading = target.read(seed);
    ASSERT_TRUE(reading.status.ok()) << reading.status;
    ASSERT_EQ(reading.broken, "");
    contents.push_back(reading.contents);
  }
  const int64_t only = FromEnvironment("LACUNA_FUZZ_CASE", -1), first = std::max<int64_t>(only, 0);
  const int64_t cases = only >= 0 ? 1 : kCases * FromEnvironment("LACUNA_FUZZ_ROUNDS", 1);
  const SandboxReport report = RunCases(cases, [&](int64_t number) -> CaseResult {
    const Case made = MakeCase(target, first + number);
    if (made.bytes == target.seeds[made.seed]) return {};
    const Reading reading = target.read(made.bytes);
    return {.accepted = reading.status.ok(),
            .complaint = Complain(target, reading, contents[made.seed])};
  });
  std::printf(
      "%s: %ld changed files, %ld accepted, the slowest took %.0f ms; %s\n", target.name.c_str(),
      static_cast<long>(report.cases), static_cast<long>(report.accepted),
      1e3 * report.slowest_seconds,
      target.uncovered.empty() ? "every byte is covered by a checksum" : target.uncovered.c_str());
  for (const Complaint& complaint : report.complaints)
    ADD_FAILURE() << Explain(target, first + complaint.number, complaint.text);
  EXPECT_TRUE(only >= 0 || report.accepted < report.cases);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const FuzzTarget& target : Targets()) names.push_back(target.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, Fuzz, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

// The harness itself: it must see what it is there to see.
TEST(Sandbox, ReportsCrashesHangsAndSlowCases) {
  const auto run = [](int64_t number) -> CaseResult {
    if (number == 1) std::abort();
    if (number == 3) return {.accepted = true, .complaint = "as asked"};
    if (number == 5) ::pause();
    return {.accepted = number == 0};
  };
  const SandboxReport report = RunCases(7, run, 3);
  EXPECT_EQ(report.cases, 7);
  EXPECT_EQ(report.accepted, 2);
  ASSERT_EQ(report.complaints.size(), 3u);
  EXPECT_EQ(report.complaints[0].number, 1);
  EXPECT_EQ(report.complaints[0].text.substr(0, 8), "crashed:");
  EXPECT_EQ(report.complaints[1].text, "as asked");
  EXPECT_EQ(report.complaints[2].text, "stood for 3 s");
  const SandboxReport endless = RunCases(1, [](int64_t) -> CaseResult {
    const std::atomic<bool> busy = true;
    while (busy) {
    }
    return {};
  });
  ASSERT_EQ(endless.complaints.size(), 1u);
  EXPECT_EQ(endless.complaints[0].text, "took more than 2 s");
}

TEST(Mutator, ChangesFilesInManyWays) {
  std::mt19937_64 random(1);
  std::set<std::string> made;
  std::map<size_t, int> sizes;
  const std::string seed = "{\"key\": 1234, \"list\": [1, 2]}";
  for (int i = 0; i < 1000; ++i) {
    const std::string bytes = Mutate(seed, "another file", {"null"}, random);
    made.insert(bytes);
    ++sizes[bytes.size()];
  }
  EXPECT_GT(made.size(), 600u);
  EXPECT_GT(sizes.size(), 40u);
  EXPECT_TRUE(Mutate("", "", {}, random).size() < 20);
}

}  // namespace
}  // namespace lacuna::test
