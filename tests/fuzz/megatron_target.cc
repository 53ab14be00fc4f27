// Megatron's .idx and .bin.
#include "data/prepare/megatron_file.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

constexpr int64_t kVocabulary = 300;

template <class T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Forty documents of 0 to 39 tokens in u16, one sequence each, with modes or without.
std::pair<std::string, std::string> MakeFiles(bool modes) {
  std::string index("MMIDIDX\0\0", 9), tokens;
  constexpr int kDocuments = 40;
  Append(&index, uint64_t{1});
  Append(&index, uint8_t{8});
  Append(&index, uint64_t{kDocuments});
  Append(&index, uint64_t{kDocuments + 1});
  for (int32_t d = 0; d < kDocuments; ++d) Append(&index, d);
  for (int64_t d = 0; d < kDocuments; ++d) Append(&index, d * (d - 1));
  for (int64_t d = 0; d <= kDocuments; ++d) Append(&index, d);
  if (modes) index.append(kDocuments, '\0');
  for (int i = 0; i < kDocuments * (kDocuments - 1) / 2; ++i)
    Append(&tokens, static_cast<uint16_t>(i * 7 % kVocabulary));
  return {index, tokens};
}

Reading ReadAll(const std::string& path) {
  const auto file = MegatronFile::Open(path);
  if (!file.ok()) return {file.status()};
  Reading reading;
  int64_t total = 0;
  std::string bytes;
  std::vector<int32_t> tokens;
  for (int64_t d = 0; d < file->num_documents(); ++d) {
    absl::Status status = file->ReadBytes(d, file->DocumentTokens(d), &bytes);
    if (status.ok()) status = file->ParseTokens(d, bytes, kVocabulary, &tokens);
    if (!status.ok()) return {status};
    total += static_cast<int64_t>(tokens.size());
  }
  if (total != file->num_tokens()) reading.broken = "its documents do not hold every token once";
  return reading;
}

}  // namespace

std::vector<FuzzTarget> MegatronTargets() {
  const auto dir = std::make_shared<TempDir>();
  const std::string idx = *dir / "m.idx", bin = *dir / "m.bin";
  const auto plain = MakeFiles(false), with_modes = MakeFiles(true);
  FuzzTarget index{.name = "megatron_idx",
                   .uncovered =
                       "no checksum: another program's format, each field is checked "
                       "against the others; the cuts between documents may move",
                   .place = *dir / "m."};
  FuzzTarget tokens{.name = "megatron_bin",
                    .uncovered =
                        "no checksum: another program's format; ids are checked against "
                        "the vocabulary",
                    .place = *dir / "m."};
  index.keep = tokens.keep = dir;
  index.seeds = {plain.first, with_modes.first};
  tokens.seeds = {plain.second};
  index.read = [=](const std::string& bytes) {
    PutFile(idx, bytes);
    PutFile(bin, plain.second);
    return ReadAll(idx);
  };
  tokens.read = [=](const std::string& bytes) {
    PutFile(idx, plain.first);
    PutFile(bin, bytes);
    return ReadAll(idx);
  };
  return {index, tokens};
}

}  // namespace lacuna::test
