// lacuna ckpt diff: two checkpoints tensor by tensor, whatever the ranks that wrote them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/status.h"
#include "tools/commands/checkpoint.h"

namespace lacuna::tools {
namespace {

// The last saved one with a good manifest; every block of it verified.
absl::StatusOr<CheckpointReader> OpenVerified(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all,
                          FindCheckpoints(path, std::nullopt));
  const auto good = std::find_if(all.begin(), all.end(),
                                 [](const CheckpointInfo& info) { return info.status.ok(); });
  if (good == all.end()) return all.front().status;
  LACUNA_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(good->path));
  const std::vector<std::string> problems = reader.Verify();
  if (!problems.empty()) return CheckpointError("{}", problems[0]);
  fmt::print("{}: step {}, format {}, layout {}\n", reader.path(), reader.manifest().step,
             reader.manifest().version, reader.manifest().layout.dump());
  return reader;
}

std::string Describe(const CheckpointTensor& tensor) {
  return fmt::format("{} {}", NameOf(tensor.dtype), ToString(tensor.shape));
}

// Elements whose bits differ, the first of them and the largest difference of values.
struct Difference {
  int64_t count = 0;
  int64_t first = 0;
  double largest = 0;
};

absl::StatusOr<Difference> Compare(const CheckpointReader& a, size_t in_a,
                                   const CheckpointReader& b, size_t in_b) {
  constexpr int64_t kChunk = int64_t{1} << 20;
  const CheckpointTensor& info = a.manifest().tensors[in_a];
  const std::optional<uint64_t>& other = b.manifest().tensors[in_b].hash;
  Difference difference;
  if (info.hash && other && *info.hash == *other) return difference;
  const int64_t numel = NumElements(info.shape);
  const auto size = static_cast<size_t>(SizeOf(info.dtype));
  for (int64_t begin = 0; begin < numel; begin += kChunk) {
    Tensor x = Tensor::Empty({std::min(kChunk, numel - begin)}, info.dtype),
           y = Tensor::EmptyLike(x);
    LACUNA_RETURN_IF_ERROR(a.Read(in_a, begin, x.numel(), x.MutableRef().data));
    LACUNA_RETURN_IF_ERROR(b.Read(in_b, begin, y.numel(), y.MutableRef().data));
    const char *x_bytes = static_cast<const char*>(x.Ref().data),
               *y_bytes = static_cast<const char*>(y.Ref().data);
    if (std::memcmp(x_bytes, y_bytes, static_cast<size_t>(x.bytes())) == 0) continue;
    const std::vector<double> x_values = x.ToDoubles(), y_values = y.ToDoubles();
    for (size_t i = 0; i < x_values.size(); ++i) {
      if (std::memcmp(x_bytes + i * size, y_bytes + i * size, size) == 0) continue;
      if (difference.count++ == 0) difference.first = begin + static_cast<int64_t>(i);
      const double apart = std::abs(x_values[i] - y_values[i]);
      if (!(apart <= difference.largest) && !std::isnan(difference.largest))
        difference.largest = apart;
    }
  }
  return difference;
}

}  // namespace

absl::Status DiffCheckpoints(const std::string& path_a, const std::string& path_b) {
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader a, OpenVerified(path_a));
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader b, OpenVerified(path_b));
  std::map<std::string, size_t> in_b;
  for (size_t t = 0; t < b.manifest().tensors.size(); ++t) in_b[b.manifest().tensors[t].name] = t;
  int64_t differ = 0;
  const auto differs = [&](const std::string& name, const std::string& what) {
    ++differ;
    fmt::print("  {}: {}\n", name, what);
  };
  const std::vector<CheckpointTensor>& tensors = a.manifest().tensors;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto found = in_b.find(tensors[t].name);
    if (found == in_b.end()) {
      differs(tensors[t].name, "only in the first");
      continue;
    }
    const CheckpointTensor& other = b.manifest().tensors[found->second];
    if (tensors[t].dtype != other.dtype || tensors[t].shape != other.shape) {
      differs(tensors[t].name, Describe(tensors[t]) + " and " + Describe(other));
    } else {
      LACUNA_ASSIGN_OR_RETURN(const Difference d, Compare(a, t, b, found->second));
      if (d.count > 0) {
        differs(tensors[t].name,
                fmt::format("{} of {} elements, the first is {}, by {:.3g} at most", d.count,
                            NumElements(other.shape), d.first, d.largest));
      }
    }
    in_b.erase(found);
  }
  for (const auto& [name, index] : in_b) differs(name, "only in the second");
  const nlohmann::json changes = nlohmann::json::diff(a.manifest().scalars, b.manifest().scalars);
  for (const nlohmann::json& change : changes)
    fmt::print("  scalar {}: {} {}\n", change.at("path").get<std::string>(),
               change.at("op").get<std::string>(),
               change.contains("value") ? change.at("value").dump() : "");
  if (differ > 0)
    return CheckpointError("{} tensor{} differ{}", differ, differ == 1 ? "" : "s",
                           differ == 1 ? "s" : "");
  fmt::print("{} tensors, every bit the same\n", tensors.size());
  return absl::OkStatus();
}

}  // namespace lacuna::tools
