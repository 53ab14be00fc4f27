// States cut over a mesh: what any mesh saved, any other loads, with the same tensors and the same
// hash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/hdf5_file.h"
#include "distributed/mesh.h"
#include "distributed/state_hash.h"
#include "tests/distributed/checkpoint_case.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/compare.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::EditManifest;
using test::Mailbox;
using test::RunRanks;
using test::TempDir;
using testing::HasSubstr;

struct Layout {
  int ranks;
  int expert;
  bool zero;  // optimizer state cut over the ranks that share a parameter
};

constexpr Layout kLayouts[] = {{8, 4, true},  {1, 1, false}, {4, 2, true}, {2, 1, true},
                               {8, 8, true},  {4, 4, false}, {8, 1, true}, {2, 2, false},
                               {8, 2, false}, {1, 1, true},  {8, 4, true}};

const std::vector<std::pair<std::string, Shape>>& Dense() {
  static const std::vector<std::pair<std::string, Shape>> shapes = {
      {"embedding", {37, 12}}, {"norm", {12}}, {"scalar", {1}}, {"head", {37, 12}}};
  return shapes;
}
const Shape kExperts = {8, 6, 5};

// Elements [begin, begin + count) of a tensor that is a function of its name and the element alone.
Tensor Part(const std::string& name, const Shape& shape, DType dtype, int64_t begin, int64_t count,
            bool fill) {
  if (!fill) return Tensor::Zeros({count}, dtype);
  const Tensor whole = test::RandomTensor(shape, dtype, TensorKey(name, dtype, shape) % 100003);
  return whole.View(begin, {count}).Clone();
}

// What rank `rank` holds.
TrainingState PiecesOf(const Layout& layout, int rank, bool fill) {
  const int groups = layout.ranks / layout.expert, of_experts = rank % layout.expert,
            replica = rank / layout.expert;
  TrainingState state;
  const auto add = [&](const std::string& name, const Shape& shape, DType dtype, int64_t begin,
                       int64_t count, int replica, int replicas) {
    state.tensors.push_back({.name = name,
                             .global_shape = shape,
                             .offset = begin,
                             .tensor = Part(name, shape, dtype, begin, count, fill),
                             .replica = replica,
                             .replicas = replicas});
  };
  // Number `part` of `parts` of elements [begin, begin + count), in steps of 16.
  const auto add_shard = [&](const std::string& name, const Shape& shape, DType dtype,
                             int64_t begin, int64_t count, int part, int parts) {
    const int64_t step = (count + 16 * parts - 1) / (16 * parts) * 16;
    const int64_t from = std::min(count, step * part), to = std::min(count, from + step);
    add(name, shape, dtype, begin + from, to - from, 0, 1);
  };
  const int64_t experts = NumElements(kExperts) / layout.expert;
  for (const char* group : {"model/", "adamw_m/"}) {
    const DType dtype = group[0] == 'm' ? DType::kF32 : DType::kBF16;
    for (const auto& [name, shape] : Dense()) {
      if (layout.zero) {
        add_shard(group + name, shape, dtype, 0, NumElements(shape), rank, layout.ranks);
      } else {
        add(group + name, shape, dtype, 0, NumElements(shape), rank, layout.ranks);
      }
    }
    if (layout.zero) {
      add_shard(std::string(group) + "experts", kExperts, dtype, of_experts * experts, experts,
                replica, groups);
    } else {
      add(std::string(group) + "experts", kExperts, dtype, of_experts * experts, experts, replica,
          groups);
    }
  }
  state.Add("buffer/bias", Part("bias", {7}, DType::kF64, 0, 7, fill));
  state.Add("buffer/none", Tensor::Zeros({0, 3}, DType::kF32));
  state.scalars = {{"samples", 4096}};
  return state;
}

int64_t BytesOf(const TrainingState& state) {
  int64_t bytes = 0;
  for (const TensorSlice& slice : state.tensors) bytes += slice.tensor.bytes();
  return bytes;
}

uint64_t Save(const std::string& directory, const Layout& layout, int64_t step) {
  uint64_t hash = 0;
  Mailbox box;
  RunRanks(box, layout.ranks, [&](Communicator& comm) {
    CheckpointWriter writer(comm, {.directory = directory, .layout = {{"expert", layout.expert}}});
    const TrainingState state = PiecesOf(layout, comm.rank(), true);
    const auto report = writer.Save(step, state);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->state_hash, StateHash(comm, state));
    if (comm.rank() == 0) hash = report->state_hash;
  });
  return hash;
}

void ExpectLoads(const std::string& directory, const Layout& layout, uint64_t hash) {
  Mailbox box;
  RunRanks(box, layout.ranks, [&](Communicator& comm) {
    TrainingState state = PiecesOf(layout, comm.rank(), false);
    const auto loaded = LoadCheckpoint(comm, directory, state, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(state.scalars.at("samples"), 4096);
    const TrainingState expected = PiecesOf(layout, comm.rank(), true);
    for (size_t t = 0; t < state.tensors.size(); ++t)
      EXPECT_TRUE(test::SameBits(state.tensors[t].tensor, expected.tensors[t].tensor));
    EXPECT_EQ(loaded->state_hash, hash);
    EXPECT_EQ(StateHash(comm, state), hash);
  });
}

TEST(CheckpointPieces, AnyMeshLoadsWhatAnyOtherSaved) {
  const TempDir dir;
  const uint64_t hash = StateHash(PiecesOf({1, 1, false}, 0, true));
  int64_t step = 0;
  for (const Layout& layout : kLayouts) {
    if (step > 0) ExpectLoads(dir.path(), layout, hash);
    EXPECT_EQ(Save(dir.path(), layout, ++step), hash);
    const auto reader = CheckpointReader::Open(fmt::format("{}/step_{}", dir.path(), step));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_TRUE(reader->Verify().empty());
    EXPECT_EQ(*reader->StateHash(), hash);
    EXPECT_EQ(reader->manifest().layout.dump(),
              fmt::format("{{\"expert\":{},\"ranks\":{}}}", layout.expert, layout.ranks));
  }
}

TEST(CheckpointPieces, EveryElementIsInOneFileAndReplicasShareTheWork) {
  const TempDir dir;
  Save(dir.path(), {8, 2, false}, 1);
  const auto reader = CheckpointReader::Open(dir / "step_1");
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::map<std::string, int64_t> elements;
  int64_t total = 0;
  std::vector<int64_t> of_files;
  for (const CheckpointFile& file : reader->manifest().files) {
    int64_t bytes = 0;
    for (const CheckpointSlice& slice : file.slices) {
      const CheckpointTensor& tensor =
          reader->manifest().tensors[static_cast<size_t>(slice.tensor)];
      elements[tensor.name] += slice.count;
      bytes += slice.count * SizeOf(tensor.dtype);
    }
    of_files.push_back(bytes);
    total += bytes;
  }
  for (const CheckpointTensor& tensor : reader->manifest().tensors)
    EXPECT_EQ(elements[tensor.name], NumElements(tensor.shape)) << tensor.name;
  for (const int64_t bytes : of_files) EXPECT_NEAR(bytes, total / 8, 64);
}

// What a rank writes, as a state of its own: nothing twice, nothing missing, and of the same hash.
TEST(CheckpointPieces, SharesAreTheStateCutAnotherWay) {
  const TempDir dir;
  for (const Layout& layout : kLayouts) {
    const uint64_t hash = Save(dir.path(), layout, 1);
    Mailbox box;
    RunRanks(box, layout.ranks, [&](Communicator& comm) {
      CheckpointWriter writer(comm, {.directory = dir.path()});
      const TrainingState state = PiecesOf(layout, comm.rank(), true),
                          share = writer.ShareOf(state);
      ASSERT_EQ(share.tensors.size(), state.tensors.size());
      for (size_t t = 0; t < state.tensors.size(); ++t) {
        EXPECT_EQ(share.tensors[t].name, state.tensors[t].name);
        EXPECT_EQ(share.tensors[t].tensor.dtype(), state.tensors[t].tensor.dtype());
        EXPECT_TRUE(share.tensors[t].tensor.numel() == 0 ||
                    share.tensors[t].tensor.SharesStorage(state.tensors[t].tensor));
      }
      EXPECT_EQ(StateHash(comm, share), hash);
      const auto report = writer.Save(2, share);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->state_hash, hash);
      Tensor sum = Tensor::FromVector(std::vector<int64_t>{BytesOf(share)}, {1});
      comm.AllReduceSum(sum).Wait();
      EXPECT_EQ(sum.data<int64_t>()[0], BytesOf(PiecesOf({1, 1, false}, 0, true)));
    });
    const auto of_state = CheckpointReader::Open(dir / "step_1"),
               of_shares = CheckpointReader::Open(dir / "step_2");
    ASSERT_TRUE(of_state.ok() && of_shares.ok());
    for (size_t f = 0; f < of_state->manifest().files.size(); ++f)
      EXPECT_EQ(of_shares->manifest().files[f].slices.size(),
                of_state->manifest().files[f].slices.size());
  }
}

TEST(CheckpointPieces, HashSeesNamesPlacesAndBits) {
  TrainingState state = PiecesOf({1, 1, false}, 0, true);
  const uint64_t hash = StateHash(state);
  float* x = state.tensors[0].tensor.mutable_data<float>();
  std::swap(x[3], x[4]);
  EXPECT_NE(StateHash(state), hash);
  std::swap(x[3], x[4]);
  EXPECT_EQ(StateHash(state), hash);
  x[0] = -x[0];
  EXPECT_NE(StateHash(state), hash);
  x[0] = -x[0];
  std::swap(state.tensors[0], state.tensors[1]);
  EXPECT_EQ(StateHash(state), hash) << "the order of tensors plays no part";
  state.tensors[0].name += "x";
  EXPECT_NE(StateHash(state), hash);
}

// Pieces that are lost, or there twice, are named when a manifest is read.
TEST(CheckpointPieces, MissingAndOverlappingPiecesAreNamed) {
  const TempDir dir;
  Save(dir.path(), {4, 4, false}, 1);
  const std::string path = dir / "step_1/MANIFEST.json";
  const std::string whole = *ReadFile(path, 1 << 20, ExitCode::kData);
  const auto index_of = [](const nlohmann::json& body, const std::string& name) {
    int64_t t = 0;
    while (body["tensors"][static_cast<size_t>(t)]["name"] != name) ++t;
    return t;
  };
  const auto error_after = [&](const std::function<void(nlohmann::json&)>& edit) {
    EXPECT_TRUE(WriteFileDurably(path, whole, ExitCode::kData).ok());
    EditManifest(path, edit);
    return Message(CheckpointReader::Open(dir / "step_1").status());
  };
  const auto of_experts = [&](nlohmann::json& body, size_t rank) -> nlohmann::json& {
    for (nlohmann::json& slice : body["files"][rank]["slices"]) {
      if (slice[0] == index_of(body, "model/experts")) return slice;
    }
    throw std::runtime_error("no piece");
  };
  EXPECT_EQ(error_after([&](nlohmann::json& body) { of_experts(body, 1)[2] = 0; }),
            path + ": elements [60, 120) of model/experts are missing");
  EXPECT_EQ(error_after([&](nlohmann::json& body) { of_experts(body, 3)[2] = 59; }),
            path + ": elements [239, 240) of model/experts are missing");
  EXPECT_EQ(
      error_after([&](nlohmann::json& body) { of_experts(body, 2)[1] = 100; }),
      path + ": elements [100, 120) of model/experts are held twice, by rank_1.h5 and rank_2.h5");
  EXPECT_EQ(error_after([&](nlohmann::json& body) {
              body["tensors"][static_cast<size_t>(index_of(body, "model/experts"))].erase("hash");
            }),
            path + ": [json.exception.out_of_range.403] key 'hash' not found");
  // Two pieces that changed places pass for whole, but not for what was saved.
  EXPECT_EQ(error_after([&](nlohmann::json& body) {
              std::swap(of_experts(body, 1)[1], of_experts(body, 2)[1]);
            }),
            "");
  const auto reader = CheckpointReader::Open(dir / "step_1");
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT(Message(reader->StateHash().status()), HasSubstr("step_1: model/experts has hash "));
}

// A damaged, cut or lost file of pieces is named by whichever rank verifies it, and all ranks of
// another mesh fall back together.
TEST(CheckpointPieces, TornFilesAreNamedOnAnotherMesh) {
  const TempDir dir;
  const Layout wrote{8, 4, true}, reads{4, 2, false};
  const uint64_t hash = Save(dir.path(), wrote, 1);
  Save(dir.path(), wrote, 2);
  const std::string file = dir / "step_2/rank_5.h5";
  const std::string whole = *ReadFile(file, 1 << 24, ExitCode::kData);
  const auto reader = CheckpointReader::Open(dir / "step_2");
  ASSERT_TRUE(reader.ok());
  const CheckpointSlice& piece = reader->manifest().files[5].slices.back();
  const std::string name = reader->manifest().tensors[static_cast<size_t>(piece.tensor)].name;
  const auto expect_warning = [&](const std::string& text) {
    Mailbox box;
    RunRanks(box, reads.ranks, [&](Communicator& comm) {
      TrainingState state = PiecesOf(reads, comm.rank(), false);
      LoadOptions options;
      std::string warning;
      options.warn = [&](const std::string& line) { warning = line; };
      const auto loaded = LoadCheckpoint(comm, dir.path(), state, options);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->step, 1);
      EXPECT_EQ(StateHash(comm, state), hash);
      EXPECT_EQ(warning, comm.rank() == 0 ? text + "; falling back to step_1" : "");
    });
  };
  std::string changed = whole;
  changed[static_cast<size_t>(piece.at)] ^= 1;
  ASSERT_TRUE(WriteFileDurably(file, changed, ExitCode::kData).ok());
  const std::vector<std::string> problems = reader->Verify();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], HasSubstr(file + ": checksum mismatch in "));
  EXPECT_THAT(problems[0], HasSubstr(name));
  expect_warning(problems[0]);
  ASSERT_TRUE(WriteFileDurably(file, whole.substr(0, whole.size() - 9), ExitCode::kData).ok());
  expect_warning(fmt::format("{}: truncated: the manifest says {} bytes, the file has {}", file,
                             whole.size(), whole.size() - 9));
  ASSERT_TRUE(RemoveTree(file, ExitCode::kData).ok());
  expect_warning(file + ": cannot open: No such file or directory");
}

// The format before tensors had hashes.
TEST(CheckpointPieces, FormatOneIsRead) {
  const TempDir dir;
  const Layout layout{4, 2, false};
  const uint64_t hash = Save(dir.path(), layout, 1);
  EditManifest(dir / "step_1/MANIFEST.json", [](nlohmann::json& body) {
    body["version"] = 1;
    for (nlohmann::json& tensor : body["tensors"]) tensor.erase("hash");
  });
  const auto reader = CheckpointReader::Open(dir / "step_1");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->manifest().version, 1);
  EXPECT_FALSE(reader->manifest().StateHash().has_value());
  EXPECT_EQ(*reader->StateHash(), hash);
  Mailbox box;
  RunRanks(box, 2, [&](Communicator& comm) {
    TrainingState state = PiecesOf({2, 1, true}, comm.rank(), false);
    const auto loaded = LoadCheckpoint(comm, dir.path(), state, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_FALSE(loaded->state_hash.has_value());
    EXPECT_EQ(StateHash(comm, state), hash);
  });
}

}  // namespace
}  // namespace lacuna
