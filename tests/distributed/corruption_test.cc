// Damage of every kind in every file of a checkpoint: it is named, nothing of it is loaded, the one
// before is taken.
#include <gtest/gtest.h>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "tests/distributed/checkpoint_case.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::CheckpointState;
using test::Mailbox;
using test::RunRanks;
using test::TempDir;

constexpr ExitCode kCode = ExitCode::kData;
constexpr int kRanks = 2;

// The small state and a tensor of several hash blocks.
TrainingState BigState(int64_t step) {
  TrainingState state = CheckpointState(step);
  const int64_t count = 5 * kHashBlockBytes / 4;
  std::vector<float> values(static_cast<size_t>(step < 0 ? 0 : count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((i * 2654435761u + static_cast<size_t>(step)) % 1000003);
  state.Add("model/zz_big",
            step < 0 ? Tensor::Zeros({count}, DType::kF32) : Tensor::FromVector(values, {count}));
  return state;
}

class Corruption : public testing::Test {
 protected:
  void SetUp() override {
    for (const int64_t step : {1, 2}) {
      Mailbox box;
      RunRanks(box, kRanks, [&](Communicator& comm) {
        CheckpointWriter writer(comm, {.directory = dir_.path()});
        ASSERT_TRUE(writer.Save(step, BigState(step)).ok());
      });
    }
    expected_ = StateHash(BigState(1));
    names_ = *ListDirectory(dir_ / "step_2", kCode);
    ASSERT_EQ(names_, (std::vector<std::string>{"MANIFEST.json", "rank_0.h5", "rank_0.xxh3",
                                                "rank_1.h5", "rank_1.xxh3"}));
    for (const std::string& name : names_)
      originals_.push_back(*ReadFile(Path(name), int64_t{1} << 30, kCode));
  }

  std::string Path(const std::string& name) const { return dir_ / ("step_2/" + name); }

  // Step 2 with one file changed (or removed): step 1 is loaded, and exactly one line says why.
  std::string Expect(size_t file, const std::string* bytes, const std::string& what) {
    const std::string path = Path(names_[file]);
    if (bytes == nullptr) {
      EXPECT_TRUE(RemoveTree(path, kCode).ok());
    } else {
      Put(path, *bytes);
    }
    std::vector<std::string> warnings;
    const auto comm = MakeSelfCommunicator();
    LoadOptions options;
    options.warn = [&](const std::string& text) { warnings.push_back(text); };
    const auto loaded = LoadCheckpoint(*comm, dir_.path(), state_, options);
    EXPECT_TRUE(loaded.ok()) << what << ": " << loaded.status();
    EXPECT_TRUE(loaded.ok() && loaded->step == 1) << what;
    EXPECT_EQ(StateHash(state_), expected_) << what;
    EXPECT_EQ(warnings.size(), 1u) << what;
    EXPECT_FALSE(VerifyCheckpoint(dir_ / "step_2").ok()) << what;
    Put(path, originals_[file]);
    const std::string warning = warnings.empty() ? "" : warnings[0];
    EXPECT_NE(warning.find(names_[file]), std::string::npos) << what << ": " << warning;
    EXPECT_EQ(warning.find('\n'), std::string::npos);
    return warning;
  }

  // No fsync: thousands of these would take minutes.
  static void Put(const std::string& path, const std::string& bytes) {
    auto file = FileDescriptor::Create(path, kCode);
    ASSERT_TRUE(file.ok() &&
                file->WriteAt(0, bytes.data(), static_cast<int64_t>(bytes.size())).ok());
  }

  TempDir dir_;
  uint64_t expected_ = 0;
  std::vector<std::string> names_, originals_;
  TrainingState state_ = BigState(-1);
};

TEST_F(Corruption, FlippedBitsAreNamedAndPassedOver) {
  for (size_t file = 0; file < names_.size(); ++file) {
    const std::string& original = originals_[file];
    // First and last bytes, and places spread over the file.
    std::vector<size_t> places = {0, 1, original.size() - 1};
    for (size_t i = 1; i < 12; ++i)
      places.push_back((original.size() * i / 12 + i) % original.size());
    for (const size_t at : places) {
      std::string changed = original;
      changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 8)));
      Expect(file, &changed, fmt::format("bit {} of byte {} in {}", at % 8, at, names_[file]));
    }
  }
}

TEST_F(Corruption, NamesTheTensorAndTheBlock) {
  // The manifest says where each slice lies.
  const auto reader = CheckpointReader::Open(dir_ / "step_2");
  int checked = 0;
  for (const CheckpointFile& file : reader->manifest().files) {
    for (const CheckpointSlice& slice : file.slices) {
      const CheckpointTensor& tensor =
          reader->manifest().tensors[static_cast<size_t>(slice.tensor)];
      const int64_t last = slice.at + slice.count * SizeOf(tensor.dtype) - 1;
      if (tensor.name != "model/zz_big" || last / kHashBlockBytes == slice.at / kHashBlockBytes)
        continue;
      const auto index =
          static_cast<size_t>(std::find(names_.begin(), names_.end(), file.name) - names_.begin());
      std::string changed = originals_[index];
      changed[static_cast<size_t>(last)] =
          static_cast<char>(changed[static_cast<size_t>(last)] + 1);
      EXPECT_EQ(
          Expect(index, &changed, "last byte"),
          fmt::format("{}: checksum mismatch in model/zz_big (block {}); falling back to step_1",
                      Path(file.name), last / kHashBlockBytes));
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

TEST_F(Corruption, ZeroedRegionsTruncationAndRemoval) {
  for (size_t file = 0; file < names_.size(); ++file) {
    const std::string& original = originals_[file];
    for (const size_t at : {size_t{0}, original.size() / 2}) {
      std::string changed = original;
      std::fill_n(changed.begin() + static_cast<int64_t>(at),
                  std::min<size_t>(65536, original.size() - at), '\0');
      Expect(file, &changed, fmt::format("hole at {} in {}", at, names_[file]));
    }
    for (const size_t size : {size_t{0}, size_t{1}, original.size() / 2, original.size() - 1}) {
      const std::string cut = original.substr(0, size);
      Expect(file, &cut, fmt::format("{} cut to {}", names_[file], size));
    }
    const std::string longer = original + "\n";
    Expect(file, &longer, names_[file] + " with a byte more");
    Expect(file, nullptr, names_[file] + " removed");
  }
}

TEST_F(Corruption, SwappedBlocksAndFilesOfAnotherStep) {
  for (size_t file = 0; file < names_.size(); ++file) {
    const std::string& original = originals_[file];
    const size_t block =
        std::min<size_t>(static_cast<size_t>(kHashBlockBytes), original.size() / 2);
    std::string swapped = original;
    std::swap_ranges(swapped.begin(), swapped.begin() + static_cast<int64_t>(block),
                     swapped.begin() + static_cast<int64_t>(block));
    Expect(file, &swapped, "swapped blocks of " + names_[file]);
    const std::string other = *ReadFile(dir_ / ("step_1/" + names_[file]), int64_t{1} << 30, kCode);
    Expect(file, &other, names_[file] + " of step 1");
  }
}

TEST_F(Corruption, RanksAgreeAndNothingWholeIsAnError) {
  std::string changed = originals_[3];
  changed[changed.size() / 2] ^= 1;
  Put(Path(names_[3]), changed);
  for (const int ranks : {2, 3}) {
    Mailbox box;
    RunRanks(box, ranks, [&](Communicator& comm) {
      TrainingState state = BigState(-1);
      std::vector<std::string> warnings;
      LoadOptions options;
      options.warn = [&](const std::string& text) { warnings.push_back(text); };
      const auto loaded = LoadCheckpoint(comm, dir_.path(), state, options);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->step, 1);
      EXPECT_EQ(StateHash(state), expected_);
      EXPECT_EQ(warnings.size(), comm.rank() == 0 ? 1u : 0u);
      options.step = 2;
      EXPECT_NE(Message(LoadCheckpoint(comm, dir_.path(), state, options).status())
                    .find("step_2/rank_1.h5: checksum mismatch in "),
                std::string::npos);
    });
  }
  ASSERT_TRUE(RemoveTree(dir_ / "step_1/rank_0.h5", kCode).ok());
  Mailbox box;
  RunRanks(box, 2, [&](Communicator& comm) {
    TrainingState state = BigState(-1);
    const absl::Status status = LoadCheckpoint(comm, dir_.path(), state, {}).status();
    EXPECT_EQ(Message(status), dir_.path() + ": no complete checkpoint (" + dir_.path() +
                                   "/step_1/rank_0.h5: cannot open: No such file or directory)");
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kCheckpoint);
  });
}

TEST_F(Corruption, LatestIsOnlyAHint) {
  for (const char* text : {"", "step_77\n", "../../etc/passwd\n", "step_1\n"}) {
    Put(dir_ / "LATEST", text);
    const auto comm = MakeSelfCommunicator();
    const auto loaded = LoadCheckpoint(*comm, dir_.path(), state_, {});
    EXPECT_TRUE(loaded.ok() && loaded->step == 2) << text;
  }
}

// Any byte of the manifest's text changed under a good checksum (a defect of ours, or malice): an
// error or a manifest that holds.
TEST_F(Corruption, MutatedManifestsParseOrFailCleanly) {
  const std::string& text = originals_[0];
  const size_t begin = text.find('\n') + 1, end = text.rfind('\n', text.size() - 2);
  int refused = 0;
  for (size_t at = begin; at < end; at += 3) {
    std::string changed = text;
    changed[at] = static_cast<char>('!' + (at * 7) % 90);
    const std::string body = changed.substr(begin, end - begin);
    changed.replace(9, 16, ToHex(XXH3_64bits(body.data(), body.size())));
    const auto manifest = ParseManifest("m", changed);
    refused += manifest.ok() ? 0 : 1;
    EXPECT_EQ(Message(manifest.status()).find('\n'), std::string::npos);
  }
  EXPECT_GT(refused, static_cast<int>((end - begin) / 3 / 4));
}

}  // namespace
}  // namespace lacuna
