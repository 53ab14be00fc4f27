// Files and checksums.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;

constexpr ExitCode kData = ExitCode::kData;

TEST(File, WritesReadsAndReplaces) {
  const TempDir dir;
  for (const std::string& text :
       {std::string("first"), std::string("\0second\n", 8), std::string()}) {
    ASSERT_TRUE(WriteFileDurably(dir / "f", text, kData).ok());
    EXPECT_EQ(*ReadFile(dir / "f", 100, kData), text);
  }
  EXPECT_EQ(*ListDirectory(dir.path(), kData), std::vector<std::string>{"f"});
}

TEST(File, ErrorsNamePathAndReason) {
  const TempDir dir;
  const auto missing = ReadFile(dir / "f", 100, kData);
  EXPECT_EQ(Message(missing.status()), dir / "f: cannot open: No such file or directory");
  EXPECT_EQ(ErrnoOf(missing.status()), ENOENT);
  EXPECT_EQ(ExitCodeOf(missing.status()), kData);
  EXPECT_EQ(Message(ReadFile(dir.path(), 100, kData).status()),
            dir.path() + ": cannot read: Is a directory");
  ASSERT_TRUE(WriteFileDurably(dir / "f", "12345", kData).ok());
  EXPECT_EQ(Message(ReadFile(dir / "f", 4, kData).status()),
            dir / "f: has 5 bytes, allowed are at most 4");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  // At once: nobody will ever write into it.
  EXPECT_EQ(Message(ReadFile(dir / "pipe", 4, kData).status()), dir / "pipe: not a regular file");
  auto file = FileDescriptor::OpenRead(dir / "f", kData);
  char buffer[10];
  EXPECT_EQ(Message(file->ReadAt(2, buffer, 10)), dir / "f: ends at byte 5, expected at least 12");
  EXPECT_EQ(Message(WriteFileDurably(dir / "no/f", "x", kData)).find(dir / "no/f.tmp."), 0u);
}

TEST(File, FailedReplacementKeepsTheOldFileAndLeavesNothing) {
  const TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir / "d/e", kData).ok());
  EXPECT_FALSE(
      WriteFileDurably(dir / "d", "x", kData).ok());  // a directory cannot be replaced by a file
  EXPECT_EQ(*ListDirectory(dir.path(), kData), std::vector<std::string>{"d"});
}

TEST(File, ReplacesDirectoriesAndRemovesTrees) {
  const TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir / "new", kData).ok());
  ASSERT_TRUE(WriteFileDurably(dir / "new/f", "new", kData).ok());
  ASSERT_TRUE(ReplaceDirectory(dir / "new", dir / "to", kData).ok());
  ASSERT_TRUE(MakeDirectories(dir / "newer", kData).ok());
  ASSERT_TRUE(WriteFileDurably(dir / "newer/f", "newer", kData).ok());
  ASSERT_TRUE(ReplaceDirectory(dir / "newer", dir / "to", kData).ok());
  EXPECT_EQ(*ReadFile(dir / "to/f", 100, kData), "newer");
  EXPECT_EQ(*ReadFile(dir / "newer/f", 100, kData), "new");
  // A link out of the tree is removed, not followed.
  ASSERT_EQ(::symlink((dir / "to").c_str(), (dir / "newer/link").c_str()), 0);
  ASSERT_TRUE(RemoveTree(dir / "newer", kData).ok());
  EXPECT_EQ(*ListDirectory(dir.path(), kData), std::vector<std::string>{"to"});
  EXPECT_TRUE(PathExists(dir / "to/f"));
  EXPECT_TRUE(RemoveTree(dir / "newer", kData).ok());
}

TEST(File, FormatsBytes) {
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 kB");
  EXPECT_EQ(FormatBytes(999'999), "1.0 MB");
  EXPECT_EQ(FormatBytes(41'234'000'000), "41.2 GB");
}

TEST(BlockHash, IsXxh3OfEachBlockWhateverTheSplit) {
  std::string bytes(static_cast<size_t>(2 * kHashBlockBytes + 12345), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  const int64_t size = static_cast<int64_t>(bytes.size());
  const BlockHashes whole = HashBytes(bytes.data(), size);
  ASSERT_EQ(whole.blocks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const size_t begin = i * static_cast<size_t>(kHashBlockBytes);
    const std::string block = bytes.substr(begin, static_cast<size_t>(kHashBlockBytes));
    EXPECT_EQ(whole.blocks[i], XXH3_64bits(block.data(), block.size()));
  }
  for (const int64_t split :
       {int64_t{1}, kHashBlockBytes - 1, kHashBlockBytes, kHashBlockBytes + 1, size}) {
    BlockHasher hasher;
    hasher.Update(bytes.data(), split);
    hasher.Update(bytes.data() + split, size - split);
    EXPECT_EQ(hasher.Finish(), whole) << split;
  }
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(dir / "f", bytes, kData).ok());
  const auto file = FileDescriptor::OpenRead(dir / "f", kData);
  EXPECT_EQ(*HashFile(*file, 0, size), whole);
  EXPECT_EQ(HashFile(*file, 5, 100)->blocks[0], XXH3_64bits(bytes.data() + 5, 100));
}

TEST(BlockHash, RootDependsOnOrderAndLength) {
  BlockHashes a{.bytes = 10, .blocks = {1, 2}}, swapped{.bytes = 10, .blocks = {2, 1}},
      longer{.bytes = 11, .blocks = {1, 2}};
  EXPECT_NE(a.Root(), swapped.Root());
  EXPECT_NE(a.Root(), longer.Root());
  EXPECT_TRUE(HashBytes("", 0).blocks.empty());
}

TEST(BlockHash, Hexadecimal) {
  uint64_t hash = 0;
  EXPECT_EQ(ToHex(0x00ABCDEF12345678u), "00abcdef12345678");
  EXPECT_TRUE(FromHex("00abcdef12345678", &hash));
  EXPECT_EQ(hash, 0x00ABCDEF12345678u);
  for (const char* bad : {"", "0", "00abcdef1234567", "00abcdef123456789", "00ABCDEF12345678",
                          "00abcdef1234567g", " 0abcdef12345678"}) {
    EXPECT_FALSE(FromHex(bad, &hash)) << bad;
  }
}

}  // namespace
}  // namespace lacuna
