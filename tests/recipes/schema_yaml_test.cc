// Text and structure of recipes: files that cannot be read, YAML that is malformed or that a
// lenient reader would misread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "recipes/schema/yaml_reader.h"
#include "tests/recipes/schema_texts.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::Complaint;
using test::Edited;
using testing::HasSubstr;
using testing::StartsWith;

TEST(RecipeFile, UnreadableFilesAreNamedWithTheReason) {
  const test::TempDir dir;
  const auto complaint = [](const std::string& path) {
    return Message(LoadRecipe(path, {}, 1).status());
  };
  EXPECT_EQ(complaint(dir / "none.yaml"),
            dir / "none.yaml" + ": cannot read: No such file or directory");
  EXPECT_EQ(complaint(dir.path()), dir.path() + ": cannot read: Is a directory");
  EXPECT_EQ(complaint("/dev/zero"), "/dev/zero: cannot read: not a regular file");
  const std::string fifo = dir / "fifo.yaml";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(complaint(fifo), fifo + ": cannot read: not a regular file");
  const std::string huge = dir / "huge.yaml";
  std::ofstream(huge).close();
  std::filesystem::resize_file(huge, uint64_t{1} << 30);
  EXPECT_EQ(complaint(huge), huge + ": cannot read: 1073741824 bytes, at most 1048576 are allowed");
  EXPECT_EQ(ExitCodeOf(LoadRecipe(huge, {}, 1).status()), ExitCode::kConfig);
}

TEST(RecipeFile, TheLargestFileIsRead) {
  const test::TempDir dir;
  const std::string path = dir / "large.yaml";
  std::string text = test::kValidRecipe;
  text += fmt::format("#{:x<{}}\n", "", kMaxYamlBytes - static_cast<int64_t>(text.size()) - 2);
  std::ofstream(path) << text;
  const auto recipe = LoadRecipe(path, {}, 1);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
}

struct Case {
  std::string text, message;
};

TEST(RecipeText, MalformedTextIsNamedByLineAndColumn) {
  const std::vector<Case> cases = {
      // Syntax.
      {Edited("  width: 64\n", "\twidth: 64\n"),
       "r.yaml:7:1: a tab; indent and separate with spaces"},
      {Edited("  width: 64\n", "  width:\t64\n"),
       "r.yaml:7:9: a tab; indent and separate with spaces"},
      {Edited("  width: 64\n", "  width: 64: 3\n"), "r.yaml:7:12: illegal map value"},
      {std::string(test::kValidRecipe) + "x: [1, 2", "r.yaml:34:1: end of sequence flow not found"},
      {Edited("  width: 64\n", "  width: [64\n"),
       "r.yaml:7:11: a value that runs on into the next line (wrong indentation there, or an "
       "unclosed bracket?)"},
      {Edited("  width: 64\n", "    width: 64\n"),
       "r.yaml:6:15: a value that runs on into the next line (wrong indentation there, or an "
       "unclosed bracket?)"},
      {Edited("  name: tiny\n", "  name: \"tiny\n"),
       "r.yaml:2:9: a quoted value that does not end on its line (a missing quote?), or block "
       "text"},
      {Edited("  name: tiny\n", "  name: 'tiny\n"),
       "r.yaml:2:9: a quoted value that does not end on its line (a missing quote?), or block "
       "text"},
      {Edited("  name: tiny\n", "  name: |\n    tiny\n"),
       "r.yaml:2:9: a quoted value that does not end on its line (a missing quote?), or block "
       "text"},
      {Edited("  name: tiny\n", "  name: tiny\n    model\n"),
       "r.yaml:2:9: a value that runs on into the next line (wrong indentation there, or an "
       "unclosed bracket?)"},
      {Edited("  width: 64\n", "<<<<<<< HEAD\n  width: 64\n"),
       "r.yaml:7:1: unresolved git merge conflict"},
      {Edited("  width: 64\n", "  width: 64\n=======\n"),
       "r.yaml:8:1: unresolved git merge conflict"},
      {Edited("  width: 64\n", "  width: 64\n>>>>>>> branch\n"),
       "r.yaml:8:1: unresolved git merge conflict"},
      // Bytes.
      {Edited("  width: 64\n", std::string("  width: 64\0\n", 13)),
       "r.yaml:7:12: a NUL byte; a recipe is UTF-8 text"},
      {Edited("  width: 64\n", "  width: 64\x04\n"),
       "r.yaml:7:12: control character 0x04 is not allowed"},
      {Edited("  width: 64\n", "  width: 64 # \xC3\n"), "r.yaml:7:15: byte 0xC3 is not UTF-8"},
      {Edited("  width: 64\n", "  width: 64 # \xC0\xAF\n"), "r.yaml:7:15: byte 0xC0 is not UTF-8"},
      {Edited("  width: 64\n", "  width: 64 # \xED\xA0\x80\n"),
       "r.yaml:7:15: byte 0xED is not UTF-8"},
      {Edited("  width: 64\n", "  width: 64 # \xF4\x90\x80\x80\n"),
       "r.yaml:7:15: byte 0xF4 is not UTF-8"},
      {std::string("r\0u\0n\0:\0", 8), "r.yaml:1:2: a NUL byte; a recipe is UTF-8 text"},
      // What YAML allows and a recipe does not.
      {Edited("  width: 64\n", "  width: &w 64\n"),
       "r.yaml:7:10: anchors (&name) are not allowed; write the value out where it is used"},
      {Edited("  width: 64\n", "  width: !!int 64\n"), "r.yaml:7:10: tags (!name) are not allowed"},
      {Edited("  width: 64\n", "  width: ! 64\n"), "r.yaml:7:10: tags (!name) are not allowed"},
      {Edited("nsa: {", "nsa: !x {"), "r.yaml:15:6: tags (!name) are not allowed"},
      {"a: &x 1\nb: *x\n",
       "r.yaml:1:4: anchors (&name) are not allowed; write the value out where it is used"},
      {"&x [*x]\n",
       "r.yaml:1:1: anchors (&name) are not allowed; write the value out where it is used"},
      {Edited("moe:\n", "moe:\n  <<: {num_experts: 3}\n"),
       "r.yaml:17:3: merge keys (<<) are not allowed; write the keys out"},
      {std::string(test::kValidRecipe) + "---\nrun: {}\n",
       "r.yaml:34:1: a second document starts here; a recipe is one document"},
      {"%YAML 1.2\n---\nrun: {}\n", "r.yaml:1:1: YAML directives are not allowed"},
      {"? [a, b]\n: 1\n", "r.yaml:1:3: a key must be a plain name (an unclosed bracket?)"},
      {"~: 1\n", "r.yaml:1:1: a key must be a plain name (an unclosed bracket?)"},
      // Not a recipe at all.
      {"", "r.yaml: empty; a recipe has sections run, model, data, train, ..."},
      {"# nothing\n", "r.yaml: empty; a recipe has sections run, model, data, train, ..."},
  };
  for (const Case& c : cases) EXPECT_EQ(Complaint(c.text), c.message) << c.text;
}

TEST(RecipeText, HarmlessVariantsAreRead) {
  EXPECT_EQ(Complaint(test::kValidRecipe), "");
  EXPECT_EQ(Complaint(fmt::format("\xEF\xBB\xBF{}", test::kValidRecipe)),
            "");  // an editor's byte-order mark
  EXPECT_EQ(Complaint(fmt::format("---\n{}...\n# end\n", test::kValidRecipe)), "");
  EXPECT_EQ(Complaint(Edited("  width: 64\n", "  \"width\": 64  # caf\xC3\xA9\tand a tab\n\n")),
            "");
  EXPECT_EQ(Complaint(Edited("  name: tiny\n", "  name: 'tiny'\n")), "");
  std::string crlf;
  for (const char c : std::string(test::kValidRecipe))
    crlf += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(Complaint(crlf), "");
}

TEST(RecipeText, DuplicatesNameBothPlaces) {
  EXPECT_EQ(Complaint(Edited("  width: 64\n", "  width: 64\n  width: 64\n")),
            "r.yaml:8:3: model.width: duplicate key, first given at r.yaml:7:3");
  EXPECT_EQ(Complaint(std::string(test::kValidRecipe) + "run: {name: b}\n"),
            "r.yaml:34:1: run: duplicate key, first given at r.yaml:1:1");
  EXPECT_EQ(Complaint(Edited("window: 64", "window: 64, block: 16")),
            "r.yaml:15:76: nsa.block: duplicate key, first given at r.yaml:15:7");
}

// Reading takes well under a second and stays small, however the text tries to grow.
TEST(RecipeText, BombsAreRefusedQuickly) {
  const auto repeated = [](const std::string& unit, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += unit;
    return text;
  };
  std::vector<std::string> bombs;
  for (const char* unit : {"[", "{a: ", "- ", "? ", "[[", "{", "{x:", "- - ", "!", "&a ", "\"", "'",
                           "a: [", "a:\n ", "|\n", "\n: "}) {
    for (const int times : {17, 400, 600, 100000}) bombs.push_back(repeated(unit, times));
  }
  std::string indented, wide, laughs = "a0: &a0 [x]\n";
  for (int i = 0; i < 1000; ++i) indented += std::string(static_cast<size_t>(i), ' ') + "k:\n";
  for (int i = 0; i < 40000; ++i) wide += fmt::format("k{}: 1\n", i);
  for (int i = 1; i < 40; ++i)
    laughs += fmt::format("a{}: &a{} [*a{}, *a{}]\n", i, i, i - 1, i - 1);
  bombs.insert(bombs.end(), {indented, wide, laughs, std::string(1 << 20, 'a'),
                             std::string(1 << 20, ' '), fmt::format("[{}]", repeated("1,", 400000)),
                             fmt::format("[{}]", repeated("1,", 49000))});
  for (const std::string& bomb : bombs) {
    const auto begin = std::chrono::steady_clock::now();
    const std::string complaint = Complaint(bomb);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_THAT(complaint, StartsWith("r.yaml")) << bomb.substr(0, 40);
    EXPECT_LT(complaint.size(), 10000u) << bomb.substr(0, 40);
    EXPECT_LT(seconds, 1.0) << bomb.substr(0, 40) << " x " << bomb.size();
  }
  EXPECT_THAT(Complaint(wide), HasSubstr("more than 10000 values"));
  EXPECT_THAT(Complaint(indented), HasSubstr("nested deeper than 16 levels"));
}

}  // namespace
}  // namespace lacuna
