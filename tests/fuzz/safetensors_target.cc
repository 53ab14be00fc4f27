// Safetensors files.
#include <fmt/ranges.h>

#include <cstring>

#include "data/safetensors_reader.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

Reading ReadTensors(const std::string& path) {
  const auto file = SafetensorsReader::Open(path);
  if (!file.ok()) return {file.status()};
  Reading reading;
  int64_t end = 0;
  for (const SafetensorsEntry& entry : file->tensors()) {
    if (entry.begin != end) reading.broken = "gives tensors with a gap or an overlap";
    end = entry.end;
    // Every byte that the header promises is there.
    reading.contents +=
        fmt::format("{} {} [{}] ", entry.name, entry.type, fmt::join(entry.shape, ","));
    reading.contents.append(file->Data(entry), static_cast<size_t>(entry.bytes()));
  }
  return reading;
}

}  // namespace

FuzzTarget SafetensorsTarget() {
  const auto dir = std::make_shared<TempDir>();
  const std::string path = *dir / "m.safetensors";
  FuzzTarget target;
  target.name = "safetensors";
  target.uncovered = "no checksum: the format has none";
  target.place = path;
  target.keep = dir;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"U8","shape":[0],)"
      R"("data_offsets":[32,32]}})";
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof(length));
  file += header;
  for (char byte = 0; byte < 32; ++byte) file += byte;
  target.seeds = {file};
  target.words = {"\"dtype\":", "\"F64\"", "\"F4\"", "[0,24]", "-1", "18446744073709551615",
                  "1e3",        "\"a\":{", "{}",     "null",   "[["};
  target.read = [path](const std::string& bytes) {
    PutFile(path, bytes);
    return ReadTensors(path);
  };
  return target;
}

}  // namespace lacuna::test
