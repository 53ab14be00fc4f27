#include <unistd.h>

#include <iterator>

#include "core/error.h"
#include "core/io/file.h"
#include "tests/fuzz/target.h"

namespace lacuna::test {

std::vector<FuzzTarget> AllTargets() {
  std::vector<FuzzTarget> targets;
  const auto add = [&](std::vector<FuzzTarget> more) {
    std::move(more.begin(), more.end(), std::back_inserter(targets));
  };
  targets.push_back(RecipeTarget());
  targets.push_back(TokenizerTarget());
  targets.push_back(ChatTarget());
  targets.push_back(SafetensorsTarget());
  add(TextTargets());
  add(MegatronTargets());
  add(CheckpointTargets());
  add(ShardTargets());
  return targets;
}

void PutFile(const std::string& path, std::string_view bytes) {
  // ext4 flushes a file that was cut to nothing and written again.
  ::unlink(path.c_str());
  auto file = FileDescriptor::Create(path, ExitCode::kData);
  LACUNA_CHECK(file.ok() && file->WriteAt(0, bytes.data(), static_cast<int64_t>(bytes.size())).ok(),
               "{} cannot be written", path);
}

}  // namespace lacuna::test
