// The files of a checkpoint: its manifest, the tensors, the hashes of their blocks.
#include "core/error.h"
#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "tests/distributed/checkpoint_case.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

Reading Load(const std::string& directory) {
  TrainingState state = CheckpointState(-1);
  const auto comm = MakeSelfCommunicator();
  LoadOptions options;
  options.step = 1;
  const absl::Status status = LoadCheckpoint(*comm, directory, state, options).status();
  if (!status.ok()) return {status};
  return {absl::OkStatus(), "",
          StateHash(state) == StateHash(CheckpointState(1)) ? "" : "other tensors are loaded"};
}

// The manifest with a checksum that is right again: what its parser alone stands.
FuzzTarget Resealed(FuzzTarget target) {
  target.name = "checkpoint_manifest_resealed";
  target.checksum = FuzzTarget::Checksum::kNone;
  target.uncovered = "its checksum is made right again, so that the parser sees the damage";
  target.read = [read = target.read](const std::string& bytes) {
    std::string changed = bytes;
    const size_t begin = changed.find('\n') + 1, end = changed.rfind('\n', changed.size() - 2);
    if (begin > 0 && end != std::string::npos && begin < end && begin > 25) {
      const uint64_t hash = XXH3_64bits(changed.data() + begin, end - begin);
      changed.replace(9, 16, ToHex(hash));
    }
    Reading reading = read(changed);
    reading.broken = "";  // where it is accepted it may name other tensors' bytes
    return reading;
  };
  return target;
}

}  // namespace

std::vector<FuzzTarget> CheckpointTargets() {
  const auto dir = std::make_shared<TempDir>();
  const auto comm = MakeSelfCommunicator();
  CheckpointWriter writer(*comm, {.directory = dir->path()});
  const auto saved = writer.Save(1, CheckpointState(1));
  LACUNA_CHECK(saved.ok(), "{}", Message(saved.status()));
  std::vector<FuzzTarget> targets;
  for (const auto& [name, file] : {std::pair{"checkpoint_manifest", "MANIFEST.json"},
                                   {"checkpoint_tensors", "rank_0.h5"},
                                   {"checkpoint_block_hashes", "rank_0.xxh3"}}) {
    FuzzTarget target{.name = name,
                      .checksum = FuzzTarget::Checksum::kFile,
                      .code = ExitCode::kCheckpoint,
                      .place = *dir / "step_1"};
    const std::string path = *dir / fmt::format("step_1/{}", file);
    const std::string original = *ReadFile(path, int64_t{1} << 30, ExitCode::kData);
    target.seeds = {original};
    target.words = {"\"hash\"", "null", "{}", "[]", "\n", "rank_1.h5", "../", "0000000000000000"};
    target.read = [=](const std::string& bytes) {
      PutFile(path, bytes);
      const Reading reading = Load(dir->path());
      PutFile(path, original);
      return reading;
    };
    target.keep = dir;
    targets.push_back(std::move(target));
  }
  targets.push_back(Resealed(targets[0]));
  return targets;
}

}  // namespace lacuna::test
