// The kinds of file that `lacuna inspect` shows. A kind is one class in a file of its own in
// tools/inspect/ and one line in tools/inspect/kinds.cc; nothing else knows it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace lacuna::tools {

// What the command line says to every kind.
struct InspectOptions {
  std::string path;
  std::string tokenizer;  // path of a tokenizer.json; empty: not given
  int64_t tokens = 200;   // most tokens to show of a document
  bool colour = false;    // for a terminal
};

class InspectKind {
 public:
  virtual ~InspectKind() = default;

  // "token shard (*.h5)": in messages, and over its own options in --help.
  virtual std::string name() const = 0;
  // A command line that shows one, without the program's name.
  virtual std::string example() const = 0;
  // Decides by the file's name and its first bytes (none where it cannot be read).
  virtual bool Recognises(const std::string& path, std::string_view head) const = 0;
  // Adds the options that only this kind has; they are refused with files of other kinds.
  virtual void AddOptions(CLI::App& command) = 0;
  // Prints to standard output.
  virtual absl::Status Show(const InspectOptions& options) const = 0;
};

// Bytes of a file's beginning that Recognises sees at most.
inline constexpr int64_t kInspectHeadBytes = 4096;

// All kinds, in the order in which they are asked and listed.
std::vector<std::unique_ptr<InspectKind>> MakeInspectKinds();

}  // namespace lacuna::tools
