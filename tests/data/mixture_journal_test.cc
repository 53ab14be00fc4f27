// Edited mixes: no sample of a source is dealt twice or left out, whatever was edited when.
#include "data/mixture_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"
#include "core/status.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

// Deals samples [begin, end) and checks that each source's numbers go on without a gap.
void Deal(const MixtureJournal& journal, int64_t begin, int64_t end,
          std::map<std::string, int64_t>* next) {
  for (int64_t k = begin; k < end; ++k) {
    const MixtureJournal::Pick pick = journal.At(k);
    ASSERT_EQ(pick.number, (*next)[pick.source]++) << "sample " << k << " of " << pick.source;
  }
}

TEST(MixtureJournal, WithoutEditsIsTheMixture) {
  const MixtureJournal journal({{"a", 0.75}, {"b", 0.25}});
  const Mixture mixture({0.75, 0.25});
  for (int64_t k = 0; k < 1000; ++k) {
    const Mixture::Pick expected = mixture.At(k);
    EXPECT_EQ(journal.At(k).source, expected.source == 0 ? "a" : "b");
    EXPECT_EQ(journal.At(k).number, expected.number);
  }
  EXPECT_EQ(journal.num_edits(), 0u);
}

TEST(MixtureJournal, EditsNeitherRepeatNorLoseSamples) {
  MixtureJournal journal({{"a", 0.7}, {"b", 0.3}});
  std::map<std::string, int64_t> next;
  Deal(journal, 0, 137, &next);
  EXPECT_THAT(journal.Edit(137, {{"a", 0.1}, {"c", 0.5}, {"b", 0.4}}),
              HasSubstr("from sample 137 on the mix is a 10 %, b 40 %, c 50 %"));
  Deal(journal, 137, 1000, &next);
  journal.Edit(1000, {{"c", 1.0}});  // the others pause ...
  Deal(journal, 1000, 1100, &next);
  journal.Edit(1100, {{"b", 2.0}, {"a", 2.0}});  // ... and go on where they stopped
  Deal(journal, 1100, 5000, &next);
  EXPECT_EQ(journal.Counts(5000), next);
  // What was dealt before the edits is as it was.
  std::map<std::string, int64_t> again;
  Deal(journal, 0, 5000, &again);
  EXPECT_EQ(again, next);
}

TEST(MixtureJournal, SharesFollowTheEdit) {
  MixtureJournal journal({{"a", 1.0}, {"b", 1.0}});
  journal.Edit(500, {{"a", 9.0}, {"b", 1.0}});
  const auto before = journal.Counts(500), after = journal.Counts(1500);
  EXPECT_EQ(before.at("a"), 250);
  EXPECT_NEAR(static_cast<double>(after.at("a") - before.at("a")), 900, 1);
}

TEST(MixtureJournal, OtherOrderOrScaleIsNoEdit) {
  MixtureJournal journal({{"a", 0.7}, {"b", 0.3}});
  EXPECT_EQ(journal.Edit(10, {{"b", 3}, {"a", 7}}), "");
  EXPECT_EQ(journal.num_edits(), 0u);
}

TEST(MixtureJournal, AnEditThatNothingWasDealtByLeavesNoTrace) {
  MixtureJournal journal({{"a", 1.0}, {"b", 1.0}});
  EXPECT_NE(journal.Edit(10, {{"a", 1.0}}), "");
  EXPECT_NE(journal.Edit(10, {{"a", 1.0}, {"b", 1.0}}), "");
  EXPECT_EQ(journal.num_edits(), 0u);
}

TEST(MixtureJournal, JsonRoundTripDealsTheSame) {
  MixtureJournal journal({{"a", 0.123456789012345678}, {"b", 1e-3}});
  journal.Edit(77, {{"b", 1.0}, {"c", 1.0 / 3}});
  const auto read = MixtureJournal::FromJson(nlohmann::json::parse(journal.ToJson().dump()), "x");
  ASSERT_TRUE(read.ok()) << Message(read.status());
  EXPECT_EQ(read->ToJson(), journal.ToJson());
  for (int64_t k = 0; k < 3000; ++k) {
    EXPECT_EQ(read->At(k).source, journal.At(k).source);
    EXPECT_EQ(read->At(k).number, journal.At(k).number);
  }
}

TEST(MixtureJournal, RefusesOtherJson) {
  for (const char* text :
       {"{}", "[]", R"([{"from": 1, "weights": [["a", 1]]}])", R"([{"from": 0, "weights": []}])",
        R"([{"from": 0, "weights": [["a", 0]]}])", R"([{"from": 0, "weights": [["a", "1"]]}])",
        R"([{"from": 0, "weights": [["a", 1]]}, {"from": 0, "weights": [["b", 1]]}])",
        R"([{"from": 0.5, "weights": [["a", 1]]}])", R"([{"weights": [["a", 1]]}])", "3"}) {
    const auto read = MixtureJournal::FromJson(nlohmann::json::parse(text), "step_3");
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_THAT(Message(read.status()), HasSubstr("step_3: entry ")) << text;
  }
}

}  // namespace
}  // namespace lacuna
