// Safetensors files: what is written is read back, and nothing else is accepted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/io/file.h"
#include "data/safetensors_reader.h"
#include "data/safetensors_writer.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A file of these bytes behind a length that says `header.size()`.
std::string FileOf(const std::string& header, const std::string& buffer = "") {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + buffer;
}

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// The line that reading a file of these bytes fails with; empty where it succeeds.
std::string Complaint(const std::string& bytes) {
  const test::TempDir dir;
  const std::string path = dir / "x.safetensors";
  WriteBytes(path, bytes);
  const auto reader = SafetensorsReader::Open(path);
  if (reader.ok()) return "";
  EXPECT_EQ(ExitCodeOf(reader.status()), ExitCode::kData);
  const std::string line = Message(reader.status());
  EXPECT_THAT(line, testing::StartsWith(path + ": "));
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  return line.substr(path.size() + 2);
}

absl::Status WriteTensor(SafetensorsWriter& writer, const std::string& name, const Tensor& tensor) {
  return writer.Write(name, tensor.Ref().data, tensor.bytes());
}

const Tensor kWide = test::RandomTensor({3, 5}, DType::kF32, 1);
const Tensor kNarrow = test::RandomTensor({7}, DType::kBF16, 2);
const Tensor kBytes = Tensor::FromVector(std::vector<uint8_t>{1, 2, 3}, {3});

// Of three types, with an empty tensor and one without dimensions.
void WriteExample(const std::string& path) {
  auto writer = SafetensorsWriter::Create(path,
                                          {{"b.narrow", DType::kBF16, {7}},
                                           {"a.narrow", DType::kBF16, {}},
                                           {"z.wide", DType::kF32, {3, 5}},
                                           {"empty", DType::kF64, {0, 4}},
                                           {"bytes", DType::kU8, {3}}},
                                          {{"made_by", "a test"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_TRUE(WriteTensor(*writer, "bytes", kBytes).ok());
  // In two parts.
  EXPECT_TRUE(writer->Write("z.wide", kWide.data<float>(), 8).ok());
  EXPECT_TRUE(WriteTensor(*writer, "b.narrow", kNarrow).ok());
  EXPECT_TRUE(writer->Write("z.wide", kWide.data<float>() + 2, 52).ok());
  EXPECT_TRUE(writer->Write("a.narrow", kNarrow.Ref().data, 2).ok());
  EXPECT_FALSE(PathExists(path)) << "the file has its name before it is whole";
  const absl::Status status = writer->Close();
  EXPECT_TRUE(status.ok()) << status;
}

TEST(Safetensors, WrittenIsReadBack) {
  const test::TempDir dir;
  const std::string path = dir / "x.safetensors";
  WriteExample(path);
  const auto reader = SafetensorsReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : reader->tensors()) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("empty", "z.wide", "a.narrow", "b.narrow", "bytes"));
  EXPECT_EQ(reader->metadata().at("format"), "pt");
  EXPECT_EQ(reader->metadata().at("made_by"), "a test");
  EXPECT_TRUE(test::SameBits(*reader->Read(*reader->Find("z.wide")), kWide));
  EXPECT_TRUE(test::SameBits(*reader->Read(*reader->Find("b.narrow")), kNarrow));
  EXPECT_EQ(reader->Read(*reader->Find("empty"))->shape(), Shape({0, 4}));
  EXPECT_TRUE(reader->Find("a.narrow")->shape.empty());
  EXPECT_EQ(reader->Read(*reader->Find("a.narrow"))->shape(), Shape({1}));
  EXPECT_EQ(reader->Find("wide"), nullptr);
  const std::string bytes = *ReadFile(path, 1 << 20, ExitCode::kData);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(ListDirectory(dir.path(), ExitCode::kData)->size(), 1u) << "a temporary file is left";
}

TEST(Safetensors, AFileThatIsNotFinishedLeavesNothing) {
  const test::TempDir dir;
  {
    auto writer = SafetensorsWriter::Create(dir / "x.safetensors", {{"a", DType::kF32, {4}}});
    ASSERT_TRUE(writer.ok());
    EXPECT_THROW((void)writer->Close(), Error);
    EXPECT_THROW((void)writer->Write("b", "", 0), Error);
    EXPECT_THROW((void)writer->Write("a", "0123456789abcdef0123", 20), Error);
  }
  EXPECT_TRUE(ListDirectory(dir.path(), ExitCode::kData)->empty());
}

// What a header says, as text; empty where it is refused.
std::string Meaning(std::string_view header, int64_t buffer_bytes) {
  const auto parsed = ParseSafetensorsHeader(header, buffer_bytes, "x.safetensors");
  if (!parsed.ok()) {
    const std::string line = Message(parsed.status());
    EXPECT_THAT(line, testing::StartsWith("x.safetensors: "));
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    EXPECT_EQ(ExitCodeOf(parsed.status()), ExitCode::kData);
    return "";
  }
  std::string text = nlohmann::json(parsed->metadata).dump() + "\n";
  for (const SafetensorsEntry& entry : parsed->tensors)
    text += fmt::format("{} {} [{}] {}..{}\n", entry.name, entry.type, fmt::join(entry.shape, ","),
                        entry.begin, entry.end);
  return text;
}

// Every byte of the header replaced by others: refused, or read as what it then says, which is
// something else.
TEST(Safetensors, ChangedHeadersAreNoticed) {
  const test::TempDir dir;
  WriteExample(dir / "x.safetensors");
  const std::string file = *ReadFile(dir / "x.safetensors", 1 << 20, ExitCode::kData);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const std::string good = file.substr(8, length);
  const auto buffer_bytes = static_cast<int64_t>(file.size() - 8 - length);
  const std::string original = Meaning(good, buffer_bytes);
  ASSERT_FALSE(original.empty());
  int refused = 0, renamed = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (int change = 1; change < 256; ++change) {
      std::string header = good;
      header[i] = static_cast<char>(header[i] ^ change);
      const std::string now = Meaning(header, buffer_bytes);
      EXPECT_NE(now, original) << "byte " << i << " ^ " << change << " changes nothing";
      (now.empty() ? refused : renamed) += 1;
    }
  }
  // A file stays valid where a letter of a name or of the metadata becomes another one.
  EXPECT_GT(refused, 3 * renamed);
}

TEST(Safetensors, ChangedLengthsAreRefused) {
  const test::TempDir dir;
  WriteExample(dir / "x.safetensors");
  const std::string good = *ReadFile(dir / "x.safetensors", 1 << 20, ExitCode::kData);
  for (size_t i = 0; i < 8; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      EXPECT_NE(Complaint(bytes), "") << "bit " << bit << " of byte " << i;
    }
  }
}

TEST(Safetensors, CutFilesAreRefused) {
  const test::TempDir dir;
  const std::string path = dir / "x.safetensors";
  WriteExample(path);
  const std::string good = *ReadFile(path, 1 << 20, ExitCode::kData);
  for (size_t size = 0; size < good.size(); size += 7)
    EXPECT_NE(Complaint(good.substr(0, size)), "") << size << " bytes";
  EXPECT_THAT(Complaint(good + "x"), HasSubstr("bytes of tensors by its header and"));
}

TEST(Safetensors, HeadersAreChecked) {
  const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                       offsets);
  };
  const std::string four = "0123", a = entry("a", "F32", "[1]", "[0,4]");
  EXPECT_EQ(Complaint(FileOf("{" + a + "}", four)), "");
  EXPECT_EQ(Complaint(FileOf("{" + a + "}   ", four)), "");
  EXPECT_EQ(Complaint(FileOf("{}")), "");
  const auto refused = [&](const std::string& header, const std::string& reason) {
    EXPECT_THAT(Complaint(FileOf(header, four)), HasSubstr(reason)) << header;
  };
  refused(" {" + a + "}", "does not start with '{'");
  refused("{" + a + "}\n", "does not end with '}' and spaces");
  refused("[1]", "does not start with '{'");
  refused("{" + a, "header");
  refused("{" + a + "}}", "header: parse error");
  refused("{\"\xC3\x28\":1}", "invalid");
  refused("{" + a + "," + a + "}", R"(has the key "a" twice)");
  refused("{" + a + "," + entry("\\u0061", "F32", "[1]", "[0,4]") + "}",
          R"(has the key "a" twice)");
  refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          R"(has the key "dtype" twice)");
  refused(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "nested more than");
  refused(R"({"a":{"dtype":"F32","shape":[1]}})", R"(tensor "a": found)");
  refused(R"({"a":[1]})", R"(tensor "a": found [1], expected an object)");
  refused("{" + entry("a", "F33", "[1]", "[0,4]") + "}", R"(has the unknown dtype "F33")");
  refused("{" + entry("a", "F32", "1", "[0,4]") + "}", "has the shape 1");
  refused("{" + entry("a", "F32", "[1.0]", "[0,4]") + "}", "has 1.0 in its shape");
  refused("{" + entry("a", "F32", "[-1]", "[0,4]") + "}", "has -1 in its shape");
  refused("{" + entry("a", "F32", "[2]", "[0,4]") + "}", "has 4 bytes by its data_offsets and 8");
  refused("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,4]") + "}",
          "has more elements than 63 bits count");
  refused("{" + entry("a", "F32", "[18446744073709551617]", "[0,4]") + "}", "in its shape");
  refused("{" + entry("a", "F4", "[3]", "[0,4]") + "}", "has 12 bits, which are no whole bytes");
  refused("{" + entry("a", "F32", "[1]", "[4,0]") + "}", "has the data_offsets [4,0]");
  refused("{" + entry("a", "F32", "[1]", "[0,4,8]") + "}", "has the data_offsets [0,4,8]");
  refused("{" + entry("a", "F32", "[1]", "[0,\\\"4\\\"]") + "}", "header: parse error");
  refused("{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("b", "U8", "[1]", "[3,4]") + "}",
          R"(tensor "b": starts at byte 3 of the buffer, expected 2: tensors may not leave gaps)");
  refused("{" + entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[2]", "[2,4]") + "}",
          R"(tensor "b": starts at byte 2 of the buffer, expected 4: tensors may not overlap)");
  refused("{" + entry("a", "U8", "[2]", "[0,2]") + "}",
          "has 2 bytes of tensors by its header and 4");
  refused("{" + a + R"(,"__metadata__":{"n":1}})", R"(__metadata__: "n" is not a string)");
  refused("{" + a + R"(,"__metadata__":[]})", "__metadata__ is not an object");
  refused("{" + entry("a\\nb", "F32", "[1]", "[0,2]") + "}", R"(tensor "a\nb": has 2 bytes)");
  EXPECT_THAT(Complaint(std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10)),
              HasSubstr("allowed are at most 100000000"));
  EXPECT_THAT(Complaint(std::string(8, '\0')), HasSubstr("empty header"));
}

TEST(Safetensors, OtherTypesAreKnownButNotRead) {
  const test::TempDir dir;
  WriteBytes(dir / "x.safetensors",
             FileOf(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", "0123"));
  const auto reader = SafetensorsReader::Open(dir / "x.safetensors");
  ASSERT_TRUE(reader.ok());
  const auto tensor = reader->Read(*reader->Find("a"));
  EXPECT_THAT(Message(tensor.status()), HasSubstr("tensor \"a\": has dtype F16"));
}

}  // namespace
}  // namespace lacuna
