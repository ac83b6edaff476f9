#include "client/lib/design_text.h"

#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::string WhyNot(absl::string_view axis) {
  return std::string(ParseAxis(axis).status().message());
}

TEST(ParseAxisTest, SplitsAtTheTopLevelOnly) {
  const auto axis = ParseAxis("normalization=none,{\"group\": {\"groups\": 4}},batch");
  ASSERT_TRUE(axis.ok()) << axis.status();
  EXPECT_EQ(axis->field(), "normalization");
  EXPECT_THAT(axis->values(), ElementsAre("none", "{\"group\": {\"groups\": 4}}", "batch"));
  EXPECT_THAT(ParseAxis("model.mlp.hidden=[100,100],[50]")->values(),
              ElementsAre("[100,100]", "[50]"));
  EXPECT_THAT(ParseAxis("a=\"x,\\\",y\",z=1")->values(), ElementsAre("\"x,\\\",y\"", "z=1"));
}

TEST(ParseAxisTest, ReadsRanges) {
  const auto plain = ParseAxis("optimizer.sgd.learning_rate=-0.5..1e2");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->range().minimum(), -0.5);
  EXPECT_EQ(plain->range().maximum(), 100);
  EXPECT_FALSE(plain->range().logarithmic() || plain->range().integer());
  const auto both = ParseAxis("batch_size=log:int:8..512");
  EXPECT_TRUE(both->range().logarithmic() && both->range().integer());
  EXPECT_TRUE(ParseAxis("batch_size=int:log:8..512")->range().logarithmic());
  EXPECT_FALSE(ParseAxis("data.arrays.path=../mine.npz")->has_range());
}

TEST(ParseAxisTest, SaysWhatIsWrong) {
  EXPECT_THAT(WhyNot("normalization"), HasSubstr("is not FIELD=VALUE"));
  EXPECT_THAT(WhyNot("=a"), HasSubstr("is not FIELD=VALUE"));
  EXPECT_THAT(WhyNot("a=1,,2"), HasSubstr("empty value"));
  EXPECT_THAT(WhyNot("a="), HasSubstr("empty value"));
  EXPECT_THAT(WhyNot("a=[1,2"), HasSubstr("not closed"));
  EXPECT_THAT(WhyNot("a=1]"), HasSubstr("closes nothing"));
  EXPECT_THAT(WhyNot("a=log:3"), HasSubstr("is no range"));
}

TEST(ParseSeedsTest, ACountOrAList) {
  EXPECT_THAT(*ParseSeeds("3"), ElementsAre(1, 2, 3));
  EXPECT_THAT(*ParseSeeds("7,4"), ElementsAre(7, 4));
  EXPECT_THAT(*ParseSeeds("7,"), ElementsAre(7));
  EXPECT_THAT(*ParseSeeds("0,4294967295"), ElementsAre(0, 4294967295U));
  for (const char* wrong : {"", "0", "-1", "x", "1,x", "10001", ",", "4294967296,"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSeeds(wrong).status())) << wrong;
  }
}

TEST(ParseCellsTest, ReadsAListOfMaps) {
  const auto cells = ParseCells("cells.yaml", R"(
- {normalization: batch, optimizer.sgd.learning_rate: 0.1}
- normalization: {group: {groups: 4}}
  model.mlp.hidden: [10, 20]
  display_name: "7"
)");
  ASSERT_TRUE(cells.ok()) << cells.status();
  ASSERT_EQ(cells->size(), 2u);
  EXPECT_THAT((*cells)[0].values(),
              UnorderedElementsAre(Pair("normalization", "batch"),
                                   Pair("optimizer.sgd.learning_rate", "0.1")));
  EXPECT_THAT(
      (*cells)[1].values(),
      UnorderedElementsAre(Pair("normalization", "{\"group\": {\"groups\": 4}}"),
                           Pair("model.mlp.hidden", "[10, 20]"), Pair("display_name", "7")));
  std::istringstream json(R"([{"batch_size": 60}])");
  EXPECT_EQ((*ReadCells("-", json))[0].values().at("batch_size"), "60");
}

TEST(ParseCellsTest, NamesTheLine) {
  EXPECT_THAT(std::string(ParseCells("c.yaml", "a: 1").status().message()),
              HasSubstr("c.yaml:1:1 is no list of cells"));
  EXPECT_THAT(std::string(ParseCells("c.yaml", "- {a: 1}\n- b\n").status().message()),
              HasSubstr("c.yaml:2:3 is no cell"));
  EXPECT_THAT(std::string(ParseCells("c.yaml", "- {a: 1, a: 2}\n").status().message()),
              HasSubstr("gives a twice"));
  EXPECT_THAT(std::string(ParseCells("c.yaml", "- {a: [1\n").status().message()),
              HasSubstr("cannot be read"));
  EXPECT_FALSE(ParseCells("c.yaml", "").ok());
  std::istringstream unused;
  EXPECT_THAT(std::string(ReadCells("/nowhere/cells.yaml", unused).status().message()),
              HasSubstr("/nowhere/cells.yaml cannot be read"));
}

}  // namespace
}  // namespace normlab::client
