#include <unistd.h>

#include "core/io/hdf5_file.h"
#include "data/sample_index.h"

namespace lacuna {
namespace {

static_assert(sizeof(Fragment) == 24, "fragments are stored as rows of three i64");

uint64_t HashOf(const std::vector<int64_t>& sample_begin, const std::vector<int64_t>& order,
                const std::vector<Fragment>& fragments) {
  const uint64_t parts[3] = {XXH3_64bits(sample_begin.data(), 8 * sample_begin.size()),
                             XXH3_64bits(order.data(), 8 * order.size()),
                             XXH3_64bits(fragments.data(), sizeof(Fragment) * fragments.size())};
  return XXH3_64bits(parts, sizeof(parts));
}

}  // namespace

absl::StatusOr<SampleIndex> SampleIndex::Read(const std::string& path, uint64_t key) {
  LACUNA_ASSIGN_OR_RETURN(const Hdf5Reader reader, Hdf5Reader::Open(path, ExitCode::kData));
  LACUNA_ASSIGN_OR_RETURN(const std::string found, reader.StringAttribute("/", "key"));
  if (found != ToHex(key))
    return DataError("{}: sample index {}, must be {}", path, found, ToHex(key));
  SampleIndex index;
  const auto read = [&](const char* name, int columns, auto* values) -> absl::Status {
    LACUNA_ASSIGN_OR_RETURN(const Hdf5Dataset dataset, reader.Find(name));
    if (dataset.type != Hdf5Type::kI64 || dataset.numel() % columns != 0)
      return DataError("{}:/{}: must be i64", path, name);
    values->resize(static_cast<size_t>(dataset.numel() / columns));
    return reader.Read(dataset, 0, dataset.numel(), values->data());
  };
  LACUNA_RETURN_IF_ERROR(read("sample_begin", 1, &index.sample_begin_));
  LACUNA_RETURN_IF_ERROR(read("order", 1, &index.order_));
  LACUNA_RETURN_IF_ERROR(read("fragments", 3, &index.fragments_));
  LACUNA_ASSIGN_OR_RETURN(const std::string hash, reader.StringAttribute("/", "content_hash"));
  if (hash != ToHex(HashOf(index.sample_begin_, index.order_, index.fragments_))) {
    return DataError("{}: checksum mismatch in the sample index", path);
  }
  return index;
}

absl::Status SampleIndex::Write(const std::string& path, uint64_t key) const {
  const std::string temporary = fmt::format("{}.tmp.{}", path, ::getpid());
  const auto write = [&]() -> absl::Status {
    LACUNA_ASSIGN_OR_RETURN(Hdf5Writer writer, Hdf5Writer::Create(temporary, ExitCode::kData));
    const auto samples = num_samples(), fragments = static_cast<int64_t>(fragments_.size());
    writer.AddDataset("sample_begin", Hdf5Type::kI64, {samples + 1});
    writer.AddDataset("order", Hdf5Type::kI64, {samples});
    writer.AddDataset("fragments", Hdf5Type::kI64, {fragments, 3});
    writer.SetAttribute("/", "key", ToHex(key));
    writer.SetAttribute("/", "content_hash", ToHex(HashOf(sample_begin_, order_, fragments_)));
    LACUNA_RETURN_IF_ERROR(writer.Seal());
    LACUNA_RETURN_IF_ERROR(
        writer.Write("sample_begin", 0, sample_begin_.data(), 8 * (samples + 1)));
    LACUNA_RETURN_IF_ERROR(writer.Write("order", 0, order_.data(), 8 * samples));
    LACUNA_RETURN_IF_ERROR(writer.Write("fragments", 0, fragments_.data(),
                                        static_cast<int64_t>(sizeof(Fragment)) * fragments));
    LACUNA_RETURN_IF_ERROR(writer.Close());
    return RenamePath(temporary, path, ExitCode::kData);
  };
  const absl::Status status = write();
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

}  // namespace lacuna
