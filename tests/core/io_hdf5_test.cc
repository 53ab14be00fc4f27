// HDF5 files: what is written reads back, and what a foreign file may not hold is refused with its
// name.
#include <gtest/gtest.h>
#include <hdf5.h>

#include <numeric>

#include "core/error.h"
#include "core/io/hdf5_file.h"
#include "core/io/hdf5_seal.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;

constexpr ExitCode kData = ExitCode::kData;

TEST(Hdf5, RoundTripOfEveryTypeAndAttribute) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  auto writer = Hdf5Writer::Create(path, kData);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const Hdf5Type types[] = {Hdf5Type::kU8,  Hdf5Type::kI8,  Hdf5Type::kU16, Hdf5Type::kU32,
                            Hdf5Type::kU64, Hdf5Type::kI32, Hdf5Type::kI64, Hdf5Type::kBF16,
                            Hdf5Type::kF32, Hdf5Type::kF64};
  for (const Hdf5Type type : types)
    writer->AddDataset(fmt::format("group/{}", NameOf(type)), type, {3, 5});
  writer->AddDataset("empty", Hdf5Type::kF32, {0, 4});
  writer->SetAttribute("/", "version", int64_t{7});
  writer->SetAttribute("group/f32", "scale", 0.1);
  writer->SetAttribute("/", "licence", std::string("CC0, \xC3\xA9"));
  writer->SetAttribute("/", "nothing", std::string());
  ASSERT_TRUE(writer->Seal().ok());
  std::vector<uint8_t> bytes(15 * 8);
  std::iota(bytes.begin(), bytes.end(), uint8_t{1});
  for (const Hdf5Type type : types) {
    const int64_t half = 7 * SizeOf(type);
    const std::string name = fmt::format("group/{}", NameOf(type));
    // in any order
    ASSERT_TRUE(writer->Write(name, half, bytes.data() + half, 15 * SizeOf(type) - half).ok());
    ASSERT_TRUE(writer->Write(name, 0, bytes.data(), half).ok());
  }
  ASSERT_TRUE(writer->Close().ok());

  const auto reader = Hdf5Reader::Open(path, kData);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->datasets().size(), 11u);
  for (const Hdf5Type type : types) {
    const auto info = reader->Find(fmt::format("group/{}", NameOf(type)));
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->type, type);
    EXPECT_EQ(info->shape, (std::vector<int64_t>{3, 5}));
    EXPECT_EQ(info->offset % 64, 0);
    std::vector<uint8_t> got(static_cast<size_t>(info->bytes));
    ASSERT_TRUE(reader->Read(*info, 0, 15, got.data()).ok());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), bytes.begin())) << info->path;
    ASSERT_TRUE(reader->Read(*info, 4, 2, got.data()).ok());
    EXPECT_EQ(got[0], bytes[static_cast<size_t>(4 * SizeOf(type))]);
  }
  EXPECT_EQ(reader->Find("empty")->numel(), 0);
  EXPECT_EQ(*reader->IntAttribute("/", "version"), 7);
  EXPECT_EQ(*reader->DoubleAttribute("group/f32", "scale"), 0.1);
  EXPECT_EQ(*reader->StringAttribute("/", "licence"), "CC0, \xC3\xA9");
  EXPECT_EQ(*reader->StringAttribute("/", "nothing"), "");
  EXPECT_EQ(Message(reader->IntAttribute("/", "licence").status()),
            path + ": attribute licence of / is not an integer");
  EXPECT_EQ(Message(reader->Find("tokens").status()),
            path +
                ": no dataset /tokens; the file holds empty, group/bf16, group/f32, group/f64, "
                "group/i32, group/i64, group/i8, group/u16, ...");
}

TEST(Hdf5, SameContentsGiveTheSameBytes) {
  const TempDir dir;
  for (const char* name : {"a.h5", "b.h5"}) {
    auto writer = Hdf5Writer::Create(dir / name, kData);
    writer->AddDataset("x", Hdf5Type::kI32, {2});
    writer->SetAttribute("x", "k", int64_t{1});
    ASSERT_TRUE(writer->Seal().ok());
    const int32_t x[2] = {1, 2};
    ASSERT_TRUE(writer->Write("x", 0, x, 8).ok());
    ASSERT_TRUE(writer->Close().ok());
  }
  EXPECT_EQ(*ReadFile(dir / "a.h5", 1 << 20, kData), *ReadFile(dir / "b.h5", 1 << 20, kData));
}

std::string OpenError(const std::string& path) {
  const auto reader = Hdf5Reader::Open(path, kData);
  if (reader.ok()) return "opened";
  EXPECT_EQ(ExitCodeOf(reader.status()), kData);
  EXPECT_EQ(Message(reader.status()).find('\n'), std::string::npos);
  return Message(reader.status()).substr(path.size());
}

TEST(Hdf5, TruncationAtEveryPlaceIsAnError) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  auto writer = Hdf5Writer::Create(path, kData);
  writer->AddDataset("x", Hdf5Type::kF64, {100});
  ASSERT_TRUE(writer->Seal().ok() && writer->Close().ok());
  const std::string bytes = *ReadFile(path, 1 << 20, kData);
  for (size_t size = 0; size < bytes.size(); size += 61) {
    ASSERT_TRUE(WriteFileDurably(dir / "cut.h5", bytes.substr(0, size), kData).ok());
    EXPECT_NE(OpenError(dir / "cut.h5"), "opened") << size << " of " << bytes.size();
  }
}

// A file made with the library itself, as a foreign one would be, and sealed as if all of it were
// structure: so that what is checked behind the seal is reached.
template <class F>
std::string Foreign(const TempDir& dir, F&& fill) {
  const std::string path = dir / "foreign.h5";
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_userblock(creation, hdf5::kSealBytes);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, H5P_DEFAULT);
  fill(file);
  H5Fclose(file);
  H5Pclose(creation);
  std::string bytes = *ReadFile(path, 1 << 20, kData);
  hdf5::SparseMemory memory;
  memory.Write(0, bytes.data(), static_cast<int64_t>(bytes.size()));
  memory.set_size(static_cast<int64_t>(bytes.size()));
  hdf5::AddSeal({}, &memory);
  bytes.resize(static_cast<size_t>(memory.size()));
  memory.Read(0, bytes.data(), memory.size());
  EXPECT_TRUE(WriteFileDurably(path, bytes, kData).ok());
  return path;
}

hid_t Dataset(hid_t file, const char* name, hid_t type, std::vector<hsize_t> dims,
              hid_t creation = H5P_DEFAULT) {
  const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  H5Sclose(space);
  return dataset;
}

TEST(Hdf5, RefusesWhatNeedsOtherFilesOrCode) {
  const TempDir dir;
  EXPECT_EQ(OpenError(Foreign(dir,
                              [](hid_t f) {
                                H5Lcreate_external("/etc/passwd", "x", f, "e", H5P_DEFAULT,
                                                   H5P_DEFAULT);
                              })),
            ":/e: is a soft or external link; only hard links are allowed");
  EXPECT_EQ(OpenError(Foreign(
                dir, [](hid_t f) { H5Lcreate_soft("/x", f, "s", H5P_DEFAULT, H5P_DEFAULT); })),
            ":/s: is a soft or external link; only hard links are allowed");
  EXPECT_EQ(OpenError(Foreign(dir,
                              [](hid_t f) {
                                const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
                                H5Pset_external(p, "/etc/passwd", 0, 16);
                                H5Dclose(Dataset(f, "x", H5T_STD_U8LE, {16}, p));
                                H5Pclose(p);
                              })),
            ":/x: its bytes are in another file, which is not allowed");
  EXPECT_EQ(OpenError(Foreign(dir,
                              [](hid_t f) {
                                const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
                                const hsize_t chunk = 4;
                                H5Pset_chunk(p, 1, &chunk);
                                H5Pset_shuffle(p);
                                H5Dclose(Dataset(f, "x", H5T_STD_U8LE, {16}, p));
                                H5Pclose(p);
                              })),
            ":/x: uses filter 2; deflate and fletcher32 are allowed");
  EXPECT_EQ(OpenError(Foreign(dir, [](hid_t f) { H5Dclose(Dataset(f, "x", H5T_STD_I32BE, {4})); })),
            ":/x: holds 32-bit big-endian integer elements; little-endian integers and floats of 8 "
            "to 64 bits are allowed");
  EXPECT_EQ(OpenError(Foreign(dir,
                              [](hid_t f) {
                                H5Dclose(Dataset(f, "x", H5T_STD_U8LE, {1ull << 40, 1ull << 40}));
                              })),
            ":/x: its shape [1099511627776, 1099511627776] has more than 2^63 bytes");
  const std::string huge = OpenError(
      Foreign(dir, [](hid_t f) { H5Dclose(Dataset(f, "x", H5T_STD_U8LE, {1ull << 40})); }));
  EXPECT_NE(huge.find(":/x: its shape [1099511627776] needs 1099511627776 bytes, the file has "),
            std::string::npos)
      << huge;
}

TEST(Hdf5, DeflatedChunksReadWhole) {
  const TempDir dir;
  const std::string path = Foreign(dir, [](hid_t f) {
    const hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk = 100;
    H5Pset_chunk(p, 1, &chunk);
    H5Pset_deflate(p, 9);
    H5Pset_fletcher32(p);
    const hid_t dataset = Dataset(f, "x", H5T_STD_I32LE, {1000}, p);
    std::vector<int32_t> values(1000);
    std::iota(values.begin(), values.end(), 0);
    H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(dataset);
    H5Pclose(p);
  });
  const auto reader = Hdf5Reader::Open(path, kData);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto info = reader->Find("x");
  EXPECT_EQ(info->offset, -1);
  std::vector<int32_t> values(1000);
  ASSERT_TRUE(reader->Read(*info, 0, 1000, values.data()).ok());
  EXPECT_EQ(values[999], 999);
}

TEST(Hdf5, MisuseIsAnException) {
  const TempDir dir;
  auto writer = Hdf5Writer::Create(dir / "a.h5", kData);
  writer->AddDataset("x", Hdf5Type::kU8, {4});
  EXPECT_THROW(writer->AddDataset("x", Hdf5Type::kU8, {4}), Error);
  EXPECT_THROW(writer->AddDataset("y", Hdf5Type::kF64, {int64_t{1} << 62}), Error);
  ASSERT_TRUE(writer->Seal().ok());
  EXPECT_THROW(writer->AddDataset("z", Hdf5Type::kU8, {4}), Error);
  EXPECT_THROW((void)writer->Write("x", 3, "ab", 2), Error);
}

}  // namespace
}  // namespace lacuna
