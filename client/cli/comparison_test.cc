#include "client/cli/comparison.h"

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace normlab::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

normlab::v1::JobSpec Spec(const std::string& text) {
  normlab::v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

std::vector<std::string> Fields(const std::vector<SpecDifference>& differences) {
  std::vector<std::string> fields;
  for (const SpecDifference& difference : differences) {
    fields.push_back(difference.field);
  }
  return fields;
}

TEST(CompareSpecsTest, TellsOnlyWhatDiffers) {
  const auto differences =
      CompareSpecs({Spec("model { mlp { hidden: 7 hidden: 8 } } seed: 3 batch_size: 60 steps: 9"),
                    Spec("model { mlp { hidden: 7 } } seed: 4 batch_size: 60 steps: 9"),
                    Spec("model { mlp { hidden: 7 hidden: 8 } } seed: 3 steps: 9")});
  EXPECT_THAT(Fields(differences), ElementsAre("batch_size", "model.mlp.hidden", "seed"));
  EXPECT_THAT(differences[0].values, ElementsAre("60", "60", "-"));
  EXPECT_THAT(differences[1].values, ElementsAre("[7, 8]", "[7]", "[7, 8]"));
  EXPECT_THAT(differences[2].values, ElementsAre("3", "4", "3"));
}

TEST(CompareSpecsTest, AnotherKindIsOneDifference) {
  const auto differences = CompareSpecs({Spec("normalization { batch { epsilon: 1e-5 } }"),
                                         Spec("normalization { group { groups: 4 } }")});
  EXPECT_THAT(Fields(differences), ElementsAre("normalization"));
  EXPECT_THAT(differences[0].values, ElementsAre("batch", "group"));
  EXPECT_THAT(Fields(CompareSpecs({Spec("normalization { batch { epsilon: 1e-5 } }"),
                                   Spec("normalization { batch { epsilon: 1e-3 } }")})),
              ElementsAre("normalization.batch.epsilon"));
}

TEST(CompareSpecsTest, NamesAreNoDifference) {
  EXPECT_TRUE(CompareSpecs({Spec("display_name: \"a\" labels { key: \"k\" value: \"v\" }"),
                            Spec("display_name: \"b\" priority: 3")})
                  .empty());
}

TEST(RenderCurvesTest, DrawsEachWithItsLetter) {
  const std::string text = RenderCurves(
      "loss", {{"down", {0, 10}, {1, 0}}, {"flat\x1b[31m", {0, 5, 10}, {0.5, NAN, 0.5}}}, 21, 5);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines[0], "loss");
  EXPECT_EQ(lines[1].substr(0, 3), "1+a");
  EXPECT_EQ(lines[5], "0+                aaa");
  // Half way up, from its first to its last point but for the gap; over the other curve.
  EXPECT_EQ(lines[3][2], 'b');
  EXPECT_EQ(lines[3].back(), 'b');
  EXPECT_THAT(lines[3], HasSubstr("a"));
  EXPECT_EQ(lines[6], "  step 0           10");
  EXPECT_EQ(lines[7], "  a  down");
  EXPECT_EQ(lines[8], "  b  flat?[31m");
}

TEST(RenderCurvesTest, ARunOnItsWayToDivergingFlattensNoOther) {
  Curve falling = {.name = "falling"};
  for (int step = 0; step <= 20; ++step) {
    falling.steps.push_back(step);
    falling.values.push_back(2.0 - 0.09 * step);
  }
  const std::string text =
      RenderCurves("loss", {falling, {"wild", {0, 1}, {2, 6e35}}}, /*width=*/40, /*height=*/7);
  EXPECT_THAT(text, Not(HasSubstr("e35"))) << text;
  EXPECT_THAT(text, HasSubstr("values above 2 are drawn at the top"));
  // The falling one uses all rows.
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  for (size_t row = 2; row <= 7; ++row) {
    EXPECT_THAT(lines[row], HasSubstr("a")) << text;
  }
}

TEST(RenderCurvesTest, GreatRangesAreLogarithmic) {
  const std::string text =
      RenderCurves("loss", {{"x", {0, 1, 2, 3, 4}, {1, 0.1, 0.01, 0.001, 0.0001}}}, 45, 5);
  EXPECT_THAT(text, HasSubstr("loss (logarithmic)\n"));
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  for (size_t row = 1; row <= 5; ++row) {
    EXPECT_THAT(lines[row], HasSubstr("a")) << text;  // a decade a row
  }
}

TEST(RenderCurvesTest, SaysWhenThereIsNothing) {
  EXPECT_EQ(RenderCurves("loss", {{"x", {1}, {NAN}}}, 40, 5), "loss: no finite value to draw\n");
  const std::vector<Curve> many(30, {"c", {0, 1}, {0, 1}});
  EXPECT_THAT(RenderCurves("loss", many, 40, 5), HasSubstr("and 4 more"));
}

}  // namespace
}  // namespace normlab::client
