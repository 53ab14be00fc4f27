// Folders of several safetensors files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "data/safetensors_reader.h"
#include "data/safetensors_writer.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::vector<std::string>> Names(const std::vector<SafetensorsFilePlan>& files) {
  std::vector<std::vector<std::string>> names;
  for (const SafetensorsFilePlan& file : files) {
    names.emplace_back();
    for (const SafetensorsSpec& spec : file.tensors) names.back().push_back(spec.name);
  }
  return names;
}

SafetensorsSpec Bytes(const std::string& name, int64_t bytes) {
  return {name, DType::kU8, {bytes}};
}

TEST(SafetensorsFolder, GroupsStayTogether) {
  const std::vector<SafetensorsGroup> groups = {
      {{Bytes("embedding", 30)}},
      {{Bytes("0.attention", 20)}, {Bytes("0.e0", 25), Bytes("0.e1", 25)}},
      {{Bytes("1.attention", 20)}, {Bytes("1.e0", 25), Bytes("1.e1", 25)}},
      {{Bytes("head", 30)}}};
  EXPECT_THAT(Names(PlanSafetensorsFiles(groups, 1000)),
              ElementsAre(ElementsAre("embedding", "0.attention", "0.e0", "0.e1", "1.attention",
                                      "1.e0", "1.e1", "head")));
  EXPECT_EQ(PlanSafetensorsFiles(groups, 1000)[0].name, "model.safetensors");
  const auto hundred = PlanSafetensorsFiles(groups, 100);
  EXPECT_THAT(Names(hundred), ElementsAre(ElementsAre("embedding", "0.attention", "0.e0", "0.e1"),
                                          ElementsAre("1.attention", "1.e0", "1.e1", "head")));
  EXPECT_EQ(hundred[1].name, "model-00002-of-00002.safetensors");
  // A layer above the limit is cut before its experts; these stay together, whatever their size.
  EXPECT_THAT(
      Names(PlanSafetensorsFiles(groups, 60)),
      ElementsAre(ElementsAre("embedding", "0.attention"), ElementsAre("0.e0", "0.e1"),
                  ElementsAre("1.attention"), ElementsAre("1.e0", "1.e1"), ElementsAre("head")));
  EXPECT_EQ(PlanSafetensorsFiles(groups, 1).size(), 6u);
}

class Folder : public testing::Test {
 protected:
  Folder() {
    files_ = PlanSafetensorsFiles({{{{"a", DType::kF32, {4}}}}, {{{"b", DType::kF32, {4}}}}}, 16);
    for (const SafetensorsFilePlan& file : files_) {
      auto writer = SafetensorsWriter::Create(dir_ / file.name, file.tensors);
      EXPECT_TRUE(writer.ok());
      EXPECT_TRUE(writer->Write(file.tensors[0].name, values_.data<float>(), 16).ok());
      EXPECT_TRUE(writer->Close().ok());
    }
    EXPECT_TRUE(WriteSafetensorsIndex(dir_.path(), files_).ok());
  }

  std::string Refusal(const std::string& index) {
    std::ofstream(dir_ / "model.safetensors.index.json") << index;
    const auto folder = SafetensorsFolder::Open(dir_.path());
    return folder.ok() ? "" : Message(folder.status());
  }

  test::TempDir dir_;
  const Tensor values_ = test::RandomTensor({4}, DType::kF32, 5);
  std::vector<SafetensorsFilePlan> files_;
};

TEST_F(Folder, IsReadBack) {
  const auto opened = SafetensorsFolder::Open(dir_.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  absl::StatusOr<SafetensorsFolder> moved = SafetensorsFolder::Open(dir_.path());
  const SafetensorsFolder folder = *std::move(moved);
  ASSERT_EQ(folder.tensors().size(), 2u);
  for (const auto& [name, item] : folder.tensors()) {
    EXPECT_EQ(item.entry->name, name);
    EXPECT_TRUE(test::SameBits(*item.file->Read(*item.entry), values_));
  }
  EXPECT_EQ(folder.tensors().at("b").file->path(), dir_ / "model-00002-of-00002.safetensors");
}

TEST_F(Folder, TheIndexIsChecked) {
  const std::string first = files_[0].name, second = files_[1].name;
  const auto index = [](const std::string& map) { return R"({"weight_map":{)" + map + "}}"; };
  const std::string a = fmt::format(R"("a":"{}")", first), b = fmt::format(R"("b":"{}")", second);
  EXPECT_EQ(Refusal(index(a + "," + b)), "");
  EXPECT_THAT(Refusal("{}"), HasSubstr("index.json: has no weight_map"));
  EXPECT_THAT(Refusal(index(a + "," + a)), HasSubstr("has the key \"a\" twice"));
  EXPECT_THAT(Refusal(index(a + R"(,"b":"../x.safetensors")")), HasSubstr("a file of the folder"));
  EXPECT_THAT(Refusal(index(a + R"(,"b":7)")), HasSubstr("\"b\" is in 7"));
  EXPECT_THAT(Refusal(index(a + R"(,"b":"none.safetensors")")),
              HasSubstr("none.safetensors: cannot open: No such file"));
  EXPECT_THAT(Refusal(index(a + fmt::format(R"(,"b":"{}")", first))),
              HasSubstr("has no tensor \"b\", which"));
  EXPECT_THAT(Refusal(index(a + "," + b + fmt::format(R"(,"c":"{}")", second))),
              HasSubstr("has no tensor \"c\", which"));
  // A tensor that the index leaves out is not passed over.
  std::filesystem::remove(dir_ / second);
  std::filesystem::copy(dir_ / first, dir_ / second);
  EXPECT_THAT(Refusal(index(a + "," + fmt::format(R"("b":"{}")", second))),
              HasSubstr("has no tensor \"b\""));
}

}  // namespace
}  // namespace lacuna
