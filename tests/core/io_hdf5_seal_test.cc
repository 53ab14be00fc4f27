// The seal of HDF5 files: no damage to a file's structure reaches the HDF5 library.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <xxhash.h>

#include <cstring>

#include "core/io/hdf5_seal.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;

constexpr ExitCode kData = ExitCode::kData;
constexpr size_t kVersion = 8, kFileBytes = 16, kListBegin = 24, kListHash = 32, kSealHash = 504;

// Two datasets and two attributes; the structure's extents are returned.
std::vector<hdf5::Extent> WriteSample(const std::string& path) {
  auto writer = Hdf5Writer::Create(path, kData);
  EXPECT_TRUE(writer.ok()) << writer.status();
  writer->AddDataset("g/x", Hdf5Type::kF32, {3, 4});
  writer->AddDataset("y", Hdf5Type::kU8, {5});
  writer->AddDataset("empty", Hdf5Type::kI64, {0});
  writer->SetAttribute("g/x", "k", int64_t{1});
  writer->SetAttribute("/", "name", std::string("sample"));
  EXPECT_TRUE(writer->Seal().ok());
  const float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EXPECT_TRUE(writer->Write("g/x", 0, x, sizeof(x)).ok());
  EXPECT_TRUE(writer->Write("y", 0, "hello", 5).ok());
  EXPECT_TRUE(writer->Close().ok());
  return hdf5::ExtentsBetween(writer->datasets(), 0, writer->file_bytes());
}

std::string Read(const std::string& path) {
  return *ReadFile(path, 1 << 20, kData);
}

template <class T>
T Get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

void Set(std::string& bytes, size_t at, uint64_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// Makes the checksums of a changed seal and list right again.
void Resign(std::string& bytes) {
  const auto list = Get<uint64_t>(bytes, kListBegin);
  if (list < bytes.size())
    Set(bytes, kListHash, XXH3_64bits(bytes.data() + list, bytes.size() - list));
  Set(bytes, kSealHash, XXH3_64bits(bytes.data(), kSealHash));
}

// What Open says of a file with these bytes, without its path.
std::string OpenError(const std::string& bytes) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  EXPECT_TRUE(WriteFileDurably(path, bytes, kData).ok());
  const auto reader = Hdf5Reader::Open(path, kData);
  if (reader.ok()) return "opened";
  EXPECT_EQ(ExitCodeOf(reader.status()), kData);
  return Message(reader.status()).substr(path.size());
}

TEST(Hdf5Seal, EveryMutationOfTheStructureIsRefused) {
  const TempDir dir;
  const std::vector<hdf5::Extent> structure = WriteSample(dir / "a.h5");
  const std::string bytes = Read(dir / "a.h5");
  std::vector<test::Mutation> mutations;
  for (const hdf5::Extent& extent : structure) {
    for (int64_t at = extent.begin; at < extent.begin + extent.bytes; ++at)
      test::AddMutations(bytes, static_cast<size_t>(at), &mutations);
  }
  EXPECT_GT(mutations.size(), 9 * (bytes.size() - 53));  // all but 48 + 5 bytes of data
  for (const std::string& complaint : test::SweepMutations(
           bytes, mutations, kData,
           [](const std::string& path) { return Hdf5Reader::Open(path, kData).status(); }))
    ADD_FAILURE() << complaint;
}

TEST(Hdf5Seal, TheLibraryReadsOnlyVerifiedBytes) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  const std::vector<hdf5::Extent> structure = WriteSample(path);
  const auto reader = Hdf5Reader::Open(path, kData);
  ASSERT_TRUE(reader.ok()) << reader.status();
  // Structure that changes behind the reader's back.
  const int fd = ::open(path.c_str(), O_WRONLY);
  FileDescriptor file(fd, path, kData);
  for (const hdf5::Extent& extent : structure) {
    const std::string garbage(static_cast<size_t>(extent.bytes), '\xFF');
    ASSERT_TRUE(file.WriteAt(extent.begin, garbage.data(), extent.bytes).ok());
  }
  EXPECT_EQ(*reader->StringAttribute("/", "name"), "sample");
  EXPECT_EQ(*reader->IntAttribute("g/x", "k"), 1);
  float x[12];
  ASSERT_TRUE(reader->Read(*reader->Find("g/x"), 0, 12, x).ok());
  EXPECT_EQ(x[11], 11);
}

TEST(Hdf5Seal, OtherProgramsOpenASealedFile) {
  const TempDir dir;
  WriteSample(dir / "a.h5");
  const hid_t file = H5Fopen((dir / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t dataset = H5Dopen2(file, "g/x", H5P_DEFAULT);
  float x[12];
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x), 0);
  EXPECT_EQ(x[11], 11);
  EXPECT_EQ(static_cast<int64_t>(H5Dget_offset(dataset)),
            Hdf5Reader::Open(dir / "a.h5", kData)->Find("g/x")->offset);
  H5Dclose(dataset);
  H5Fclose(file);
}

TEST(Hdf5Seal, NamesWhatIsDamaged) {
  const TempDir dir;
  const std::vector<hdf5::Extent> structure = WriteSample(dir / "a.h5");
  const std::string good = Read(dir / "a.h5");
  const size_t size = good.size(), list = Get<uint64_t>(good, kListBegin);
  EXPECT_EQ(OpenError(good), "opened");
  EXPECT_EQ(OpenError(good.substr(0, size - 1)),
            fmt::format(": truncated: has {} bytes, its seal says {}", size - 1, size));
  EXPECT_EQ(OpenError(good.substr(0, 512)),
            fmt::format(": truncated: has 512 bytes, its seal says {}", size));
  EXPECT_EQ(OpenError(good + "\n"),
            fmt::format(": too long: has {} bytes, its seal says {}", size + 1, size));
  for (const size_t bytes : {size_t{0}, size_t{511}})
    EXPECT_EQ(OpenError(good.substr(0, bytes)),
              fmt::format(": has {} bytes, a sealed HDF5 file has more than 512", bytes));
  const auto flipped = [&](size_t at) {
    std::string bytes = good;
    bytes[at] ^= 1;
    return OpenError(bytes);
  };
  EXPECT_EQ(flipped(0),
            ": does not begin with a seal: not an HDF5 file of this program, or damaged");
  for (const size_t at : {kVersion, kFileBytes, size_t{100}, size_t{511}})
    EXPECT_EQ(flipped(at), ": checksum mismatch in the file's seal, bytes [0, 512)");
  EXPECT_EQ(flipped(size - 1),
            fmt::format(": checksum mismatch in the list of the file's structure, bytes [{}, {})",
                        list, size));
  const hdf5::Extent& extent = structure[1];  // between the datasets
  EXPECT_EQ(flipped(static_cast<size_t>(extent.begin + extent.bytes - 1)),
            fmt::format(": checksum mismatch in the file's structure, bytes [{}, {})", extent.begin,
                        extent.begin + extent.bytes));
}

// Seals that no writer makes, with every checksum right.
TEST(Hdf5Seal, ForgedSealsAreRefused) {
  const TempDir dir;
  WriteSample(dir / "a.h5");
  const std::string good = Read(dir / "a.h5");
  const auto forged = [&](size_t at, uint64_t value) {
    std::string bytes = good;
    Set(bytes, at, value);
    Resign(bytes);
    return OpenError(bytes);
  };
  const size_t size = good.size(), list = Get<uint64_t>(good, kListBegin);
  EXPECT_EQ(forged(kListBegin, list), "opened");  // so each change below is what is refused
  EXPECT_EQ(forged(kVersion, 2), ": its seal has version 2, this program reads version 1");
  for (const uint64_t place : {uint64_t{0}, list + 1, size + 24, uint64_t{1} << 63}) {
    EXPECT_EQ(forged(kListBegin, place),
              fmt::format(": its seal places the list of extents at byte {} of {}",
                          static_cast<int64_t>(place), size));
  }
  const auto first_bytes = Get<uint64_t>(good, list + 8);
  // The second entry begins within the first; the first one before the structure or too long.
  EXPECT_EQ(forged(list + 24, 512),
            fmt::format(": its seal lists {} bytes at byte 512, must lie in [{}, {})",
                        Get<uint64_t>(good, list + 32), 512 + first_bytes, list));
  EXPECT_EQ(forged(list, 0), fmt::format(": its seal lists {} bytes at byte 0, must lie in [512, "
                                         "{})",
                                         first_bytes, list));
  for (const int64_t bytes : {static_cast<int64_t>(list) - 511, int64_t{-1}, INT64_MAX}) {
    EXPECT_EQ(
        forged(list + 8, static_cast<uint64_t>(bytes)),
        fmt::format(": its seal lists {} bytes at byte 512, must lie in [512, {})", bytes, list));
  }
  EXPECT_EQ(forged(list + 16, 7).find(": checksum mismatch in the file's structure, bytes [512, "),
            0u);
  // A list that would not fit into memory: 7 MB of entries.
  std::string huge = good.substr(0, list);
  huge.resize(list + 24 * 300'000);
  Set(huge, kFileBytes, huge.size());
  Resign(huge);
  EXPECT_EQ(OpenError(huge), ": its structure takes 1.2 GB of memory, allowed are 1.1 GB");
}

// A seal that lists no structure: the library gets none.
TEST(Hdf5Seal, UnlistedStructureIsZeros) {
  const TempDir dir;
  WriteSample(dir / "a.h5");
  std::string bytes = Read(dir / "a.h5");
  bytes.resize(Get<uint64_t>(bytes, kListBegin));
  Set(bytes, kFileBytes, bytes.size());
  Resign(bytes);
  Set(bytes, kListHash, XXH3_64bits(nullptr, 0));
  Set(bytes, kSealHash, XXH3_64bits(bytes.data(), kSealHash));
  EXPECT_EQ(OpenError(bytes).find(": not a readable HDF5 file: "), 0u);
}

TEST(Hdf5Seal, PlainHdf5IsRefusedAsSuch) {
  const TempDir dir;
  const std::string path = dir / "plain.h5";
  H5Fclose(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  const absl::Status status = Hdf5Reader::Open(path, ExitCode::kCheckpoint).status();
  EXPECT_EQ(Message(status), path + ": HDF5 without a seal, so its structure cannot be verified");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kCheckpoint);
  EXPECT_TRUE(IsUnsealed(status));
  EXPECT_FALSE(IsUnsealed(Hdf5Reader::Open(dir / "none.h5", kData).status()));
  EXPECT_FALSE(IsUnsealed(absl::OkStatus()));
}

}  // namespace
}  // namespace lacuna
