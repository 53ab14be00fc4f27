// Damage to a file, tried in child processes: a crash or a hang is a failure with a name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/status.h"

namespace lacuna::test {

struct Mutation {
  enum class Kind : uint8_t { kFlip, kZero, kTruncate };
  Kind kind = Kind::kFlip;
  size_t at = 0;  // byte; what is truncated has this many
  int bit = 0;    // kFlip
};

// All there is at byte `at` of `bytes`: each bit flipped, the byte zeroed (where it is not zero),
// the file cut before it.
void AddMutations(const std::string& bytes, size_t at, std::vector<Mutation>* mutations);

// Calls `open` with the path of a file in memory that holds `bytes` with one of the mutations, for
// each of them. It must refuse the file: an error with `code`, one line that names the path. One
// complaint for each mutation that was accepted, refused otherwise, crashed or took more than 10 s;
// it stops after about 20.
std::vector<std::string> SweepMutations(
    const std::string& bytes, const std::vector<Mutation>& mutations, ExitCode code,
    const std::function<absl::Status(const std::string& path)>& open);

}  // namespace lacuna::test
