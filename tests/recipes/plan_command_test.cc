// The program itself: `lacuna plan`, its output and its exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/recipes/schema_texts.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

struct Outcome {
  int exit_code;
  std::string text;  // both streams
};

Outcome RunLacuna(const std::string& arguments) {
  const std::string command = fmt::format("'{}' {} 2>&1", std::getenv("LACUNA_PROGRAM"), arguments);
  std::FILE* pipe = popen(command.c_str(), "r");
  LACUNA_CHECK(pipe != nullptr, "cannot run {}", command);
  Outcome outcome{0, ""};
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;)
    outcome.text.append(buffer, n);
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TEST(PlanCommand, PrintsThePlan) {
  const test::TempDir dir;
  const std::string path = dir / "r.yaml";
  std::ofstream(path) << test::kValidRecipe;
  const Outcome plan = RunLacuna("plan " + path +
                                 " --ranks 4 --hosts 2 --host-memory 2 --set train.dtype=bf16 "
                                 "--set train.checkpoint_every=1");
  EXPECT_EQ(plan.exit_code, 0) << plan.text;
  for (const char* part :
       {"tiny: 2 layers of width 64, native sparse attention, 4 experts top-2 + 1 shared, bf16",
        "Parameters", "master weights", "4 ranks", "micro-batches of a step and rank", "a host",
        "2 ranks; fits, ", "Sparsity"}) {
    EXPECT_THAT(plan.text, HasSubstr(part));
  }
  EXPECT_THAT(plan.text, testing::Not(HasSubstr("nan")));
}

TEST(PlanCommand, TheResolvedRecipeIsARecipe) {
  const test::TempDir dir;
  const std::string path = dir / "r.yaml", resolved = dir / "resolved.yaml";
  std::ofstream(path) << test::kValidRecipe;
  const Outcome first =
      RunLacuna("plan " + path + " --resolved --set optimizer.learning_rate=3e-3");
  EXPECT_EQ(first.exit_code, 0);
  EXPECT_THAT(first.text, HasSubstr("learning_rate: 0.003\n"));
  std::ofstream(resolved) << first.text;
  EXPECT_EQ(RunLacuna("plan " + resolved + " --resolved").text, first.text);
}

TEST(PlanCommand, EveryKeyIsDocumented) {
  const Outcome keys = RunLacuna("plan --keys");
  EXPECT_EQ(keys.exit_code, 0);
  for (const KeyInfo& key : RecipeKeys()) {
    EXPECT_THAT(keys.text, HasSubstr(key.path));
    EXPECT_THAT(keys.text, HasSubstr(key.doc));
    EXPECT_FALSE(key.doc.empty()) << key.path;
  }
}

TEST(PlanCommand, MistakesExitWithTwo) {
  const test::TempDir dir;
  const std::string path = dir / "r.yaml";
  std::ofstream(path) << test::kValidRecipe;
  const auto expect = [](const std::string& arguments, const std::string& message) {
    const Outcome outcome = RunLacuna(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.text, HasSubstr(message));
  };
  expect("plan", "lacuna: plan: give a recipe, or --keys\n");
  expect("plan " + dir.path(), "lacuna: " + dir.path() + ": cannot read: Is a directory\n");
  expect("plan " + (dir / "none.yaml"), "cannot read: No such file or directory\n");
  expect("plan " + path + " --set model.wdith=1",
         "lacuna: --set model.wdith: model.wdith: unknown key; did you mean model.width?\n");
  expect("plan " + path + " --ranks 3", path +
                                            ":32:17: train.global_batch = 8: must be a multiple of "
                                            "3 ranks times train.micro_batch = 1\n");
  expect("plan " + path + " --ranks 4 --hosts 3",
         "lacuna: --hosts 3: must divide the number of ranks, 4\n");
  expect("plan " + path + " --ranks 0", "--ranks");
  expect("plan " + path + " --rank 2", "--rank");
}

}  // namespace
}  // namespace lacuna
