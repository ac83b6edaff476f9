#include "server/domain/design.h"

#include <set>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

template <typename T>
T Parse(const std::string& text) {
  T message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

v1::JobSpec Base() {
  return Parse<v1::JobSpec>(
      "model { mlp { hidden: 9 } } normalization { batch { epsilon: 1e-3 } } data { fashion_mnist "
      "{} } seed: 7 "
      "probes { every: 5 landscape {} }");
}

ExpandedDesign Expand(const std::string& design) {
  return ExpandDesign(Base(), Parse<v1::Design>(design));
}

TEST(SetFieldTest, SetsScalarsEnumsListsMessagesAndMembers) {
  v1::JobSpec spec = Base();
  ASSERT_TRUE(SetField("optimizer.sgd.learning_rate", "0.25", spec).ok());
  EXPECT_EQ(spec.optimizer().sgd().learning_rate(), 0.25);
  ASSERT_TRUE(SetField("model.mlp.activation", "TANH", spec).ok());
  EXPECT_EQ(spec.model().mlp().activation(), v1::Activation::TANH);
  ASSERT_TRUE(SetField("model.mlp.hidden", "[5, 6]", spec).ok());
  EXPECT_THAT(spec.model().mlp().hidden(), ElementsAre(5, 6));
  ASSERT_TRUE(SetField("normalization", "layer", spec).ok());
  EXPECT_TRUE(spec.normalization().has_layer());
  ASSERT_TRUE(SetField("normalization", "{\"group\": {\"groups\": 4}}", spec).ok());
  EXPECT_EQ(spec.normalization().group().groups(), 4);
  ASSERT_TRUE(SetField("display_name", "a \"b\"", spec).ok());
  EXPECT_EQ(spec.display_name(), "a \"b\"");
  ASSERT_TRUE(SetField("time_limit", "30s", spec).ok());
  EXPECT_EQ(spec.time_limit().seconds(), 30);
  ASSERT_TRUE(SetField("probes[0].every", "9", spec).ok());
  EXPECT_EQ(spec.probes(0).every(), 9);
}

TEST(SetFieldTest, ErrorsNameTheNearestFieldAndLeaveTheSpecAlone) {
  const struct {
    const char* path;
    const char* value;
    const char* says;
  } kCases[] = {
      {"optimizer.sgd.learing_rate", "1", "did you mean learning_rate?"},
      {"normalisation", "batch", "did you mean normalization?"},
      {"normalization", "bach", "did you mean batch?"},
      {"model.mlp.activation", "RELUU", "did you mean RELU?"},
      {"optimizer.sgd.learning_rate", "fast", "is no value of learning_rate"},
      {"normalization.layer.epsilon", "1", "the spec has chosen batch"},
      {"batch_size.x", "1", "has no fields"},
      {"probes.every", "1", "name one of them"},
      {"probes[3].every", "1", "list with 1 elements"},
      {"batch_size", "1, \"seed\": 3", "is no value of batch_size"},
      {"", "1", "is empty"},
  };
  for (const auto& [path, value, says] : kCases) {
    v1::JobSpec spec = Base();
    const absl::Status status = SetField(path, value, spec);
    EXPECT_THAT(std::string(status.message()), HasSubstr(says)) << path;
    EXPECT_EQ(spec.SerializeAsString(), Base().SerializeAsString()) << path;
  }
}

TEST(ExpandDesignTest, TakesAllCombinationsLastAxisFastest) {
  const ExpandedDesign design = Expand(
      "axes { field: \"normalization\" values: [\"none\", \"batch\"] } "
      "axes { field: \"optimizer.sgd.learning_rate\" values: [\"0.01\", \"0.1\", \"1\"] } seeds: "
      "[3, 4]");
  ASSERT_THAT(design.violations, IsEmpty());
  ASSERT_THAT(design.cells, SizeIs(6));
  EXPECT_THAT(design.seeds, ElementsAre(3, 4));
  EXPECT_THAT(design.cells[1].values, ElementsAre(Pair("normalization", "none"),
                                                  Pair("optimizer.sgd.learning_rate", "0.1")));
  EXPECT_TRUE(design.cells[4].spec.normalization().has_batch());
  EXPECT_EQ(design.cells[4].spec.optimizer().sgd().learning_rate(), 0.1);
  // A member that is named has its defaults, not the base's settings.
  EXPECT_FALSE(design.cells[4].spec.normalization().batch().has_epsilon());
}

TEST(ExpandDesignTest, AnAxisMayGoThroughWhatAnEarlierOneChose) {
  const ExpandedDesign design = Expand(
      "axes { field: \"normalization\" values: \"group\" } "
      "axes { field: \"normalization.group.groups\" values: [\"1\", \"3\"] }");
  ASSERT_THAT(design.violations, IsEmpty());
  EXPECT_EQ(design.cells[1].spec.normalization().group().groups(), 3);
}

TEST(ExpandDesignTest, WithoutAxesThereIsTheBaseOverItsSeed) {
  const ExpandedDesign design = Expand("");
  ASSERT_THAT(design.cells, SizeIs(1));
  EXPECT_THAT(design.seeds, ElementsAre(7));
}

TEST(ExpandDesignTest, CellsCanBeListed) {
  const ExpandedDesign design = Expand(
      "cells { values { key: \"batch_size\" value: \"8\" } } "
      "cells { values { key: \"normalization\" value: \"none\" } values { key: \"batch_size\" "
      "value: \"2\" } }");
  ASSERT_THAT(design.violations, IsEmpty());
  ASSERT_THAT(design.cells, SizeIs(2));
  EXPECT_EQ(design.cells[1].spec.batch_size(), 2);
}

TEST(ExpandDesignTest, RandomCellsRepeatForTheirSeedAndStayInRange) {
  const std::string text =
      "axes { field: \"optimizer.sgd.learning_rate\" range { minimum: 1e-4 maximum: 1 logarithmic: "
      "true } } "
      "axes { field: \"batch_size\" range { minimum: 2 maximum: 64 integer: true } } "
      "axes { field: \"normalization\" values: [\"none\", \"batch\"] } random { cells: 200 seed: 5 "
      "}";
  const ExpandedDesign first = Expand(text);
  ASSERT_THAT(first.violations, IsEmpty());
  ASSERT_THAT(first.cells, SizeIs(200));
  const ExpandedDesign second = Expand(text);
  int below = 0;
  std::set<std::string> kinds;
  for (size_t i = 0; i < first.cells.size(); ++i) {
    EXPECT_EQ(first.cells[i].values, second.cells[i].values);
    const double rate = first.cells[i].spec.optimizer().sgd().learning_rate();
    EXPECT_GE(rate, 1e-4);
    EXPECT_LE(rate, 1);
    below += rate < 1e-2 ? 1 : 0;
    EXPECT_GE(first.cells[i].spec.batch_size(), 2);
    EXPECT_LE(first.cells[i].spec.batch_size(), 64);
    kinds.insert(first.cells[i].values[2].second);
  }
  EXPECT_NEAR(below, 100, 35);  // half, in the logarithm; 5 deviations
  EXPECT_THAT(kinds, SizeIs(2));
}

TEST(ExpandDesignTest, MistakesAreNamedOnceAndHugeDesignsAreRefusedAtOnce) {
  const struct {
    const char* design;
    const char* field;
    const char* says;
  } kCases[] = {
      {"axes { field: \"normalisation\" values: [\"none\", \"batch\"] }", "design.axes[0].field",
       "did you mean normalization?"},
      {"axes { field: \"batch_size\" }", "design.axes[0].values", "is empty"},
      {"axes { field: \"batch_size\" values: [\"1\", \"x\"] }", "design.axes[0].values[1]",
       "is no value"},
      {"axes { field: \"normalization\" values: [\"batsh\", \"none\"] }",
       "design.axes[0].values[0]", "did you mean batch?"},
      {"axes { field: \"batch_size\" values: [\"1\", \"1\"] }", "design.axes[0].values[1]",
       "again"},
      {"axes { field: \"seed\" values: \"1\" }", "design.axes[0].field", "design.seeds"},
      {"axes { field: \"batch_size\" values: \"1\" } axes { field: \"batch_size\" values: \"2\" }",
       "design.axes[1].field", "merge"},
      {"seeds: [1, 2, 1]", "design.seeds[2]", "again"},
      {"axes { field: \"batch_size\" range { minimum: 1 maximum: 2 } }", "design.axes[0].range",
       "random"},
      {"axes { field: \"batch_size\" range { minimum: 3 maximum: 2 } } random { cells: 2 }",
       "design.axes[0].range", "smaller minimum"},
      {"random { cells: 2 }", "design.axes", "is empty"},
      {"cells {} axes { field: \"batch_size\" values: \"1\" }", "design.cells", "keep one"},
      {"axes { field: \"batch_size\" range { minimum: 1 maximum: 9 } } random { cells: 1000000000 "
       "}",
       "design", "at most 10000 jobs"},
  };
  for (const auto& [text, field, says] : kCases) {
    const ExpandedDesign design = Expand(text);
    ASSERT_THAT(design.violations, SizeIs(1)) << text;
    EXPECT_EQ(design.violations[0].field, field) << text;
    EXPECT_THAT(design.violations[0].description, HasSubstr(says)) << text;
    EXPECT_THAT(design.cells, IsEmpty());
  }
  // 10^9 combinations.
  v1::Design huge;
  for (const char* const field : {"batch_size", "steps", "threads"}) {
    v1::Axis& axis = *huge.add_axes();
    axis.set_field(field);
    for (int i = 1; i <= 1000; ++i) {
      // Values that would be mistakes, were they looked at.
      axis.add_values("x" + std::to_string(i));
    }
  }
  const ExpandedDesign refused = ExpandDesign(Base(), huge);
  ASSERT_THAT(refused.violations, SizeIs(1));
  EXPECT_EQ(refused.violations[0].field, "design");
  EXPECT_THAT(refused.violations[0].description, HasSubstr("more than 10000 cells"));
}

TEST(ExpandDesignTest, SizesAreRefusedBeforeAnythingIsLookedAt) {
  // Random cells do not multiply, but a value is looked at as well.
  v1::Design random;
  random.mutable_random()->set_cells(1);
  for (int a = 0; a < 16; ++a) {
    v1::Axis& axis = *random.add_axes();
    axis.set_field("wrong" + std::to_string(a));
    for (int i = 0; i < 10'000; ++i) {
      axis.add_values("x");
    }
  }
  const ExpandedDesign values = ExpandDesign(Base(), random);
  ASSERT_THAT(values.violations, SizeIs(1));
  EXPECT_EQ(values.violations[0].field, "design.axes");
  EXPECT_THAT(values.violations[0].description, HasSubstr("160000 values"));

  v1::Design seeds;
  for (int i = 0; i < 30'000; ++i) {
    seeds.add_seeds(1);
  }
  const ExpandedDesign repeated = ExpandDesign(Base(), seeds);
  ASSERT_THAT(repeated.violations, SizeIs(2));
  EXPECT_EQ(repeated.violations[1].field, "design.seeds");

  // A base that is honest alone, but not in ten thousand copies.
  v1::JobSpec large = Base();
  for (int i = 0; i < 500; ++i) {
    (*large.mutable_labels())["key-" + std::to_string(i)] = std::string(20, 'v');
  }
  v1::Design copies;
  for (uint32_t seed = 0; seed < 2; ++seed) {
    copies.add_seeds(seed);
  }
  v1::Axis& axis = *copies.add_axes();
  axis.set_field("batch_size");
  for (int i = 1; i <= 5'000; ++i) {
    axis.add_values(std::to_string(i));
  }
  ASSERT_THAT(ExpandDesign(Base(), copies).violations, IsEmpty());
  const ExpandedDesign copied = ExpandDesign(large, copies);
  ASSERT_THAT(copied.violations, SizeIs(1));
  EXPECT_THAT(copied.violations[0].description, HasSubstr("(5000 cells by 2 seeds)"));
  EXPECT_THAT(copied.violations[0].description, HasSubstr("at most 32 MiB"));

  // Seeds make jobs as well as cells do: with 15 KB each, one cell.
  v1::Design over_seeds;
  for (uint32_t seed = 0; seed < 1'000; ++seed) {
    over_seeds.add_seeds(seed);
  }
  ASSERT_THAT(ExpandDesign(large, over_seeds).violations, IsEmpty());
  for (uint32_t seed = 1'000; seed < 4'000; ++seed) {
    over_seeds.add_seeds(seed);
  }
  const ExpandedDesign many_seeds = ExpandDesign(large, over_seeds);
  ASSERT_THAT(many_seeds.violations, SizeIs(1));
  EXPECT_EQ(many_seeds.violations[0].field, "design");
  EXPECT_THAT(many_seeds.violations[0].description, HasSubstr("(1 cell by 4000 seeds)"));

  v1::Design path;
  path.add_axes()->set_field(std::string(100'000, '.'));
  path.mutable_axes(0)->add_values("1");
  EXPECT_THAT(ExpandDesign(Base(), path).violations[0].description, HasSubstr("100000 bytes"));
}

TEST(ExpandDesignTest, ManyMistakesAreCountedAndAHundredShown) {
  v1::Design design;
  v1::Axis& axis = *design.add_axes();
  axis.set_field("batch_size");
  axis.add_values("1");
  for (int i = 0; i < 5'000; ++i) {
    axis.add_values("x" + std::to_string(i));
  }
  const ExpandedDesign refused = ExpandDesign(Base(), design);
  ASSERT_THAT(refused.violations, SizeIs(101));
  EXPECT_EQ(refused.violations[99].field, "design.axes[0].values[100]");
  EXPECT_EQ(refused.violations[100].field, "design");
  EXPECT_THAT(refused.violations[100].description, HasSubstr("4900 more"));
}

}  // namespace
}  // namespace normlab::server
