#include "distributed/checkpoint_manifest.h"

#include <xxhash.h>

#include <algorithm>

#include "absl/strings/cord.h"
#include "core/io/block_hash.h"
#include "core/status.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "lacuna checkpoint";
constexpr char kOtherVersionKey[] = "lacuna.other_version";
constexpr std::string_view kHead = "{\"hash\":\"", kMiddle = "\",\"manifest\":\n", kTail = "\n}\n";

uint64_t HashOf(std::string_view text) {
  return XXH3_64bits(text.data(), text.size());
}

json ToJson(const Manifest& manifest) {
  json tensors = json::array(), files = json::array();
  for (const CheckpointTensor& tensor : manifest.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", NameOf(tensor.dtype)},
                       {"shape", std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end())}});
    if (tensor.hash) tensors.back()["hash"] = ToHex(*tensor.hash);
  }
  for (const CheckpointFile& file : manifest.files) {
    json slices = json::array();
    for (const CheckpointSlice& slice : file.slices)
      slices.push_back({slice.tensor, slice.offset, slice.count, slice.at});
    files.push_back({{"name", file.name},
                     {"bytes", file.bytes},
                     {"hash", ToHex(file.hash)},
                     {"slices", slices}});
  }
  return {{"format", kFormat},
          {"version", manifest.version},
          {"step", manifest.step},
          {"serial", manifest.serial},
          {"created", manifest.created},
          {"recipe", manifest.recipe},
          {"recipe_hash", ToHex(HashOf(manifest.recipe))},
          {"layout", manifest.layout},
          {"scalars", manifest.scalars},
          {"tensors", tensors},
          {"slice_fields", {"tensor", "offset", "count", "at"}},
          {"files", files}};
}

CheckpointTensor TensorFromJson(const json& source, int64_t version) {
  CheckpointTensor tensor{.name = source.at("name"), .shape = {}};
  // Messages and tables print it as it is.
  if (tensor.name.empty() || OneLine(tensor.name) != tensor.name)
    throw std::runtime_error("a tensor's name is empty or has a control character");
  if (!ParseDType(source.at("dtype").get<std::string>(), &tensor.dtype))
    throw std::runtime_error(tensor.name + " has an unknown dtype");
  int64_t bytes = SizeOf(tensor.dtype);
  for (const int64_t d : source.at("shape").get<std::vector<int64_t>>()) {
    if (d < 0 || __builtin_mul_overflow(bytes, d, &bytes))
      throw std::runtime_error(tensor.name + " has an impossible shape");
    tensor.shape.push_back(d);
  }
  if (tensor.shape.empty() || tensor.shape.size() > 6)
    throw std::runtime_error(tensor.name + " has not 1 to 6 dimensions");
  if (version == 1) return tensor;
  if (!FromHex(source.at("hash").get<std::string>(), &tensor.hash.emplace()))
    throw std::runtime_error(tensor.name + " has no valid hash");
  return tensor;
}

CheckpointFile FileFromJson(const json& source, const std::vector<CheckpointTensor>& tensors) {
  CheckpointFile file{.name = source.at("name"), .bytes = source.at("bytes"), .slices = {}};
  const std::string digits = file.name.size() > 8 ? file.name.substr(5, file.name.size() - 8) : "";
  // Nothing but a plain name of ours: it becomes part of a path.
  if (file.name != fmt::format("rank_{}.h5", digits) ||
      !std::all_of(digits.begin(), digits.end(), ::isdigit)) {
    throw std::runtime_error("a file is not called rank_<number>.h5");
  }
  if (file.bytes < 0 || !FromHex(source.at("hash").get<std::string>(), &file.hash))
    throw std::runtime_error(file.name + " has no valid size and hash");
  for (const json& fields : source.at("slices")) {
    const CheckpointSlice slice{fields.at(0), fields.at(1), fields.at(2), fields.at(3)};
    if (slice.tensor < 0 || slice.tensor >= static_cast<int64_t>(tensors.size()))
      throw std::runtime_error(file.name + " holds an unknown tensor");
    const CheckpointTensor& tensor = tensors[static_cast<size_t>(slice.tensor)];
    const int64_t numel = NumElements(tensor.shape), size = SizeOf(tensor.dtype);
    if (slice.offset < 0 || slice.count < 0 || slice.offset > numel ||
        slice.count > numel - slice.offset || slice.at < 0 || slice.at > file.bytes ||
        slice.count * size > file.bytes - slice.at) {
      throw std::runtime_error(
          fmt::format("{} has a slice of {} out of range", file.name, tensor.name));
    }
    file.slices.push_back(slice);
  }
  return file;
}

Manifest FromJson(const json& source) {
  Manifest manifest{.version = source.at("version"),
                    .step = source.at("step"),
                    .serial = source.at("serial"),
                    .created = source.at("created"),
                    .recipe = source.at("recipe"),
                    .layout = source.at("layout"),
                    .scalars = source.at("scalars"),
                    .tensors = {},
                    .files = {}};
  for (const json& tensor : source.at("tensors"))
    manifest.tensors.push_back(TensorFromJson(tensor, manifest.version));
  for (const json& file : source.at("files"))
    manifest.files.push_back(FileFromJson(file, manifest.tensors));
  return manifest;
}

absl::Status OtherVersion(const std::string& path, int64_t version) {
  const bool newer = version > kCheckpointVersion;
  absl::Status status =
      CheckpointError("{}: format {} {} supported {}{}", path, version, newer ? ">" : "<",
                      newer ? kCheckpointVersion : kOldestCheckpointVersion,
                      newer ? ": written by a newer lacuna, use that one" : ": too old to be read");
  status.SetPayload(kOtherVersionKey, absl::Cord("1"));
  return status;
}

}  // namespace

int64_t Manifest::TotalBytes() const {
  int64_t total = 0;
  for (const CheckpointFile& file : files) total += file.bytes;
  return total;
}

std::optional<uint64_t> Manifest::StateHash() const {
  uint64_t sum = 0;
  for (const CheckpointTensor& tensor : tensors) {
    if (!tensor.hash) return std::nullopt;
    sum += *tensor.hash;
  }
  return version == 1 ? std::nullopt : std::optional<uint64_t>(sum);
}

bool IsOtherVersion(const absl::Status& status) {
  return status.GetPayload(kOtherVersionKey).has_value();
}

std::string HashFileOf(const std::string& file) {
  return file.substr(0, file.size() - 3) + ".xxh3";
}

bool ParseDType(std::string_view name, DType* dtype) {
  for (const DType candidate :
       {DType::kF32, DType::kF64, DType::kBF16, DType::kI32, DType::kI64, DType::kU8}) {
    if (name != NameOf(candidate)) continue;
    *dtype = candidate;
    return true;
  }
  return false;
}

std::string FormatManifest(const Manifest& manifest) {
  const std::string body = ToJson(manifest).dump();
  std::string text(kHead);
  text += ToHex(HashOf(body));
  text += kMiddle;
  text += body;
  text += kTail;
  return text;
}

absl::StatusOr<Manifest> ParseManifest(const std::string& path, std::string_view text) {
  const size_t begin = kHead.size() + 16 + kMiddle.size();
  uint64_t hash = 0;
  if (text.size() < begin + kTail.size() || text.substr(0, kHead.size()) != kHead ||
      !FromHex(text.substr(kHead.size(), 16), &hash) ||
      text.substr(kHead.size() + 16, kMiddle.size()) != kMiddle ||
      text.substr(text.size() - kTail.size()) != kTail) {
    return CheckpointError("{}: not a checkpoint manifest, or truncated", path);
  }
  const std::string_view body = text.substr(begin, text.size() - kTail.size() - begin);
  if (HashOf(body) != hash) return CheckpointError("{}: checksum mismatch", path);
  try {
    const json source = json::parse(body);
    if (source.at("format") != kFormat)
      return CheckpointError("{}: not a checkpoint manifest", path);
    const int64_t version = source.at("version");
    if (version < kOldestCheckpointVersion || version > kCheckpointVersion)
      return OtherVersion(path, version);
    Manifest manifest = FromJson(source);
    if (const absl::Status status = CheckCoverage(manifest); !status.ok())
      return CheckpointError("{}: {}", path, Message(status));
    return manifest;
  } catch (const std::exception& error) {  // of JSON: a field that is missing or of another type
    return CheckpointError("{}: {}", path, error.what());
  }
}

absl::Status CheckCoverage(const Manifest& manifest) {
  struct Range {
    int64_t begin, end;
    const CheckpointFile* file;
  };
  std::vector<std::vector<Range>> ranges(manifest.tensors.size());
  for (const CheckpointFile& file : manifest.files) {
    for (const CheckpointSlice& slice : file.slices) {
      if (slice.count == 0) continue;
      ranges[static_cast<size_t>(slice.tensor)].push_back(
          {slice.offset, slice.offset + slice.count, &file});
    }
  }
  for (size_t t = 0; t < ranges.size(); ++t) {
    const CheckpointTensor& tensor = manifest.tensors[t];
    std::stable_sort(ranges[t].begin(), ranges[t].end(),
                     [](const Range& a, const Range& b) { return a.begin < b.begin; });
    const int64_t numel = NumElements(tensor.shape);
    const Range* before = nullptr;
    const auto missing = [&](int64_t end) {
      return CheckpointError("elements [{}, {}) of {} are missing",
                             before == nullptr ? 0 : before->end, end, tensor.name);
    };
    for (const Range& range : ranges[t]) {
      const int64_t covered = before == nullptr ? 0 : before->end;
      if (range.begin > covered) return missing(range.begin);
      if (range.begin < covered) {
        return CheckpointError("elements [{}, {}) of {} are held twice, by {} and {}", range.begin,
                               std::min(covered, range.end), tensor.name, before->file->name,
                               range.file->name);
      }
      before = &range;
    }
    if ((before == nullptr ? 0 : before->end) != numel) return missing(numel);
  }
  return absl::OkStatus();
}

}  // namespace lacuna
