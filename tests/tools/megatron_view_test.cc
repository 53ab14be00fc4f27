// What InspectMegatron prints.
#include "tools/inspect/megatron_view.h"

#include <gtest/gtest.h>

#include "core/io/file.h"
#include "core/status.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/temp_dir.h"

namespace lacuna::tools {
namespace {

class MegatronViewTest : public testing::Test {
 protected:
  // Documents "ab", an end and "\x1B" + "\xC3" (half a character) in u16, the second without tokens.
  void SetUp() override {
    std::string index("MMIDIDX\0\0", 9);
    const auto put = [](std::string* out, auto value) {
      out->append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    put(&index, uint64_t{1});
    put(&index, uint8_t{8});
    put(&index, uint64_t{2});
    put(&index, uint64_t{4});
    for (const int32_t length : {3, 2}) put(&index, length);
    for (const int64_t pointer : {0, 6}) put(&index, pointer);
    for (const int64_t sequence : {0, 1, 1, 2}) put(&index, sequence);
    std::string tokens;
    for (const int id : {97, 98, test::kByteEod, 0x1B, 0xC3})
      put(&tokens, static_cast<uint16_t>(id));
    ASSERT_TRUE(WriteFileDurably(dir_ / "m.idx", index, ExitCode::kData).ok());
    ASSERT_TRUE(WriteFileDurably(dir_ / "m.bin", tokens, ExitCode::kData).ok());
    options_.path = dir_ / "m.idx";
  }

  std::string Output() {
    testing::internal::CaptureStdout();
    const absl::Status status = InspectMegatron(options_);
    EXPECT_TRUE(status.ok()) << status;
    return testing::internal::GetCapturedStdout();
  }

  const std::string head_ =
      ": Megatron data set, its index holds\n"
      "  tokens     5 as u16\n"
      "  sequences  2\n"
      "  documents  3, of 0 to 3 tokens, median 2\n";
  test::TempDir dir_;
  MegatronViewOptions options_;
};

TEST_F(MegatronViewTest, ShowsIdsWithoutATokenizer) {
  EXPECT_EQ(Output(), options_.path + head_ +
                          "\n--- document 0: 3 tokens\n97 98 257\n"
                          "\n--- document 1: 0 tokens\n\n"
                          "\n--- document 2: 2 tokens\n27 195\n");
  options_.tokens = 1;
  options_.document = 2;
  options_.documents = INT64_MAX;
  EXPECT_EQ(Output(),
            options_.path + head_ + "\n--- document 2: 2 tokens\n27\n... 1 more tokens\n");
}

TEST_F(MegatronViewTest, ShowsTextWithOne) {
  options_.tokenizer = *Tokenizer::FromJson(test::ByteTokenizerJson(), "t.json");
  EXPECT_EQ(Output(), options_.path + head_ +
                          "\n--- document 0: 3 tokens\nab<|endoftext|>\n"
                          "\n--- document 1: 0 tokens\n\n"
                          "\n--- document 2: 2 tokens\n\\x1B\\xC3\n");
}

TEST_F(MegatronViewTest, NamesADocumentThatIsNotThere) {
  options_.document = 3;
  const absl::Status status = InspectMegatron(options_);
  EXPECT_EQ(Message(status), "inspect: --first 3: " + options_.path + " holds 3 documents");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kConfig);
}

}  // namespace
}  // namespace lacuna::tools
