// `lacuna ckpt` as a user runs it: output and exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/io/file.h"
#include "distributed/checkpoint_reader.h"
#include "distributed/checkpoint_writer.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

struct Output {
  int code;
  std::string text;
};

Output Ckpt(const std::string& arguments) {
  const char* program = std::getenv("LACUNA_PROGRAM");
  LACUNA_CHECK(program != nullptr, "LACUNA_PROGRAM is not set");
  FILE* pipe = ::popen(fmt::format("{} ckpt {} 2>&1", program, arguments).c_str(), "r");
  Output output{0, ""};
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe))
    output.text.append(buffer, got);
  output.code = WEXITSTATUS(::pclose(pipe));
  return output;
}

class CkptCommand : public testing::Test {
 protected:
  void SetUp() override {
    const auto comm = MakeSelfCommunicator();
    CheckpointWriter writer(*comm, {.directory = dir_ / "run/checkpoints"});
    for (const int64_t step : {100, 200}) {
      TrainingState state;
      state.Add("model/a.weight", Tensor::FromVector(std::vector<float>{3, -4, 0, 0}, {2, 2}));
      state.Add("buffer/bias",
                Tensor::FromVector(std::vector<double>{1, step == 100 ? NAN : 1}, {2}));
      state.Add("adamw_m/a.weight",
                Tensor::FromVector(std::vector<float>{0.5, 0.5, 0.5, 0.5}, {2, 2}));
      state.Add("adamw_v/a.weight", Tensor::FromVector(std::vector<float>{0, 0, 0, 0.25}, {2, 2}));
      state.scalars = {{"step", step}};
      hashes_.push_back(fmt::format("{:016x}", StateHash(state)));
      ASSERT_TRUE(writer.Save(step, state).ok());
    }
  }
  test::TempDir dir_;
  std::vector<std::string> hashes_;
};

TEST_F(CkptCommand, VerifyAcceptsARunAFolderAndOneCheckpoint) {
  for (const char* place : {"run", "run/", "run/checkpoints"}) {
    const Output output = Ckpt("verify " + dir_ / place);
    EXPECT_EQ(output.code, 0) << output.text;
    EXPECT_NE(output.text.find("step 200       ok"), std::string::npos) << output.text;
    EXPECT_NE(output.text.find("state hash " + hashes_[0]), std::string::npos) << output.text;
    EXPECT_NE(output.text.find("state hash " + hashes_[1]), std::string::npos) << output.text;
  }
  for (const std::string& arguments :
       {"verify " + dir_ / "run/checkpoints/step_100", "verify --step 100 " + dir_ / "run"}) {
    const Output output = Ckpt(arguments);
    EXPECT_EQ(output.code, 0) << output.text;
    EXPECT_NE(output.text.find(hashes_[0]), std::string::npos) << output.text;
    EXPECT_EQ(output.text.find("step 200"), std::string::npos) << output.text;
  }
}

TEST_F(CkptCommand, VerifyNamesTheDamage) {
  const std::string file = dir_ / "run/checkpoints/step_200/rank_0.h5";
  std::string bytes = *ReadFile(file, 1 << 20, ExitCode::kData);
  bytes.back() = static_cast<char>(bytes.back() + 1);
  ASSERT_TRUE(WriteFileDurably(file, bytes, ExitCode::kData).ok());
  const Output output = Ckpt("verify " + dir_ / "run");
  EXPECT_EQ(output.code, 4);
  EXPECT_NE(output.text.find("step 200       DAMAGED\n  " + file + ": checksum mismatch in "),
            std::string::npos)
      << output.text;
  EXPECT_NE(output.text.find("step 100       ok"), std::string::npos) << output.text;
  EXPECT_NE(output.text.find("1 of 2 checkpoints damaged"), std::string::npos) << output.text;
  EXPECT_EQ(Ckpt("show " + dir_ / "run").code, 4);
}

TEST_F(CkptCommand, ShowPrintsStatisticsOfWeightsAndMoments) {
  const Output output = Ckpt("show " + dir_ / "run");
  EXPECT_EQ(output.code, 0) << output.text;
  EXPECT_NE(output.text.find(
                "step_200: 4 parameters, 4 tensors, written by 1 rank, every block verified"),
            std::string::npos)
      << output.text;
  EXPECT_NE(output.text.find("a.weight     f32               [2, 2]        2.5         4        "
                             "0.5       0.5      0.125      0.25\n"),
            std::string::npos)
      << output.text;
  EXPECT_NE(output.text.find("every element is finite"), std::string::npos) << output.text;
  const Output broken = Ckpt("show --step 100 " + dir_ / "run");
  EXPECT_NE(broken.text.find("1 NaN or inf\n"), std::string::npos) << broken.text;
  EXPECT_NE(broken.text.find("1 element is NaN or inf"), std::string::npos) << broken.text;
}

TEST_F(CkptCommand, DiffNamesTheTensorsThatDiffer) {
  const std::string run = dir_ / "run/checkpoints/";
  Output output = Ckpt("diff " + run + "step_100 " + run + "step_200");
  EXPECT_EQ(output.code, 4);
  for (const std::string& text :
       {run + "step_100: step 100, format 2, layout {\"ranks\":1}\n" + run +
            "step_200: step 200, format 2, layout {\"ranks\":1}\n"
            "  buffer/bias: 1 of 2 elements, the first is 1, by nan at most\n"
            "  scalar /step: replace 200\n",
        std::string("lacuna: 1 tensor differs\n")}) {
    EXPECT_NE(output.text.find(text), std::string::npos) << output.text;
  }
  output = Ckpt("diff " + run + " " + run + "step_200");
  EXPECT_EQ(output.code, 0) << output.text;
  EXPECT_NE(output.text.find("4 tensors, every bit the same\n"), std::string::npos) << output.text;
}

TEST_F(CkptCommand, ErrorsAndHelp) {
  EXPECT_EQ(Ckpt("show " + dir_ / "none").code, 4);
  EXPECT_EQ(Ckpt("show --step 5 " + dir_ / "run").text,
            "lacuna: " + dir_ / "run/checkpoints: has no checkpoint of step 5\n");
  EXPECT_EQ(Ckpt("verify").code, 2);
  EXPECT_EQ(Ckpt("mend " + dir_.path()).code, 2);
  const Output help = Ckpt("verify --help");
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.text.find("Example: lacuna ckpt verify "), std::string::npos) << help.text;
}

}  // namespace
}  // namespace lacuna
