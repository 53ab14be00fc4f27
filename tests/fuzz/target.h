// A file format under fuzz, and the list of all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "core/status.h"

namespace lacuna::test {

// What the reader made of a file. An accepted file is given back as text, so that two readings can
// be compared; `broken` says what an accepted file does not keep.
struct Reading {
  absl::Status status;
  std::string contents = {};
  std::string broken = {};
};

struct FuzzTarget {
  enum class Checksum {
    kNone,      // a changed file may be accepted, and then must be as good as any
    kContents,  // a changed file may be accepted where it reads the same
    kFile,      // no changed file is accepted
  };

  std::string name;
  Checksum checksum = Checksum::kNone;
  std::string uncovered = {};           // the bytes that no checksum covers, and why that may be
  ExitCode code = ExitCode::kData;      // of every refusal,
  std::string place = {};               // and what its message names
  std::vector<std::string> seeds = {};  // good files
  std::vector<std::string_view> words = {};
  // Called in a child process of its own, with one thread.
  std::function<Reading(const std::string& bytes)> read = {};
  std::shared_ptr<void> keep = {};  // what `read` refers to
};

FuzzTarget RecipeTarget();
FuzzTarget TokenizerTarget();
FuzzTarget ChatTarget();  // JSON lines of conversations
FuzzTarget SafetensorsTarget();
std::vector<FuzzTarget> TextTargets();        // JSON lines, plain and compressed
std::vector<FuzzTarget> MegatronTargets();    // .idx, .bin
std::vector<FuzzTarget> CheckpointTargets();  // the three kinds of file in a checkpoint
std::vector<FuzzTarget> ShardTargets();       // token shards, sample indexes

// Every input format. A new one is a function above and a line in its definition (targets.cc).
std::vector<FuzzTarget> AllTargets();

// Without fsync: there are thousands of them.
void PutFile(const std::string& path, std::string_view bytes);

}  // namespace lacuna::test
