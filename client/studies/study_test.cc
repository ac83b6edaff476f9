#include "client/studies/study.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/requests.h"

namespace normlab::client::studies {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(StudyTest, AllNineAreThereWithTheirTextsAndPresets) {
  EXPECT_THAT(StudyNames(),
              ElementsAre("affine", "three-modes", "covariate-shift", "landscape", "explosion",
                          "learning-rate", "three-factors", "normalizers", "sync-batch"));
  for (const std::string& name : StudyNames()) {
    const auto text = DescribeStudy(name);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_FALSE(text->title.empty() || text->question.empty() || text->definition.empty() ||
                 text->paper.empty())
        << name;
    EXPECT_FALSE(text->sources.empty()) << name;
    ASSERT_EQ(text->presets.size(), 3U) << name;
    EXPECT_EQ(text->presets[0].name, "smoke");
    EXPECT_EQ(text->presets[1].name, "quick");
    EXPECT_EQ(text->presets[2].name, "paper");
  }
}

TEST(StudyTest, EveryPresetMakesAPlanThatKeepsTheRules) {
  for (const std::string& name : StudyNames()) {
    for (const char* preset : {"smoke", "quick", "paper"}) {
      SCOPED_TRACE(name + " " + preset);
      const auto plan = MakePlan(name, {.preset = preset});
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_GT(plan->jobs(), 0);
      for (const Part& part : plan->parts) {
        EXPECT_FALSE(part.about.empty());
        EXPECT_GT(part.core_seconds, 0);
        // Equal runs everywhere: the algorithm is not left to a rule, and the number of threads is given.
        EXPECT_EQ(part.base.convolution_algorithm(), v1::ConvolutionAlgorithm::DIRECT);
        EXPECT_TRUE(part.base.has_threads());
        EXPECT_TRUE(part.base.has_model());
        EXPECT_TRUE(part.base.has_data());
        EXPECT_NE(part.base.budget_case(), v1::JobSpec::BUDGET_NOT_SET) << part.name;
        std::set<std::string> names;
        for (const StudyAxis& axis : part.axes) {
          EXPECT_TRUE(names.insert(axis.name).second);
          EXPECT_FALSE(axis.levels.empty()) << axis.name;
          for (const Level& level : axis.levels) {
            EXPECT_FALSE(level.fields.empty()) << level.name;
          }
        }
      }
      // On 2 cores: smoke 20 s, quick 5 minutes.
      if (std::string(preset) == "smoke") {
        EXPECT_LE(plan->Seconds(2), 20);
      } else if (std::string(preset) == "quick") {
        EXPECT_LE(plan->Seconds(2), 300);
      }
    }
  }
}

TEST(StudyTest, QuickPresetsTogetherEndWithinFortyMinutes) {
  double seconds = 0;
  for (const std::string& name : StudyNames()) {
    seconds += MakePlan(name, {})->Seconds(2);
  }
  EXPECT_LE(seconds, 40 * 60);
}

TEST(StudyTest, CellsGoThroughTheLevelsTheLastAxisFirst) {
  const auto plan = MakePlan("explosion", {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Part& growth = plan->parts.front();
  ASSERT_EQ(growth.cells(), 8);
  EXPECT_EQ(LevelsOfCell(growth, 0)[0]->name, "ReLU");
  EXPECT_EQ(LevelsOfCell(growth, 1)[1]->name, "16");
  EXPECT_EQ(LevelsOfCell(growth, 4)[0]->name, "linear");
  const v1::Design design = MakeDesign(growth);
  ASSERT_EQ(design.axes_size(), 2);
  EXPECT_EQ(design.axes(0).field(), "model.mlp.activation");
  EXPECT_THAT(design.axes(1).values(), ElementsAre("8", "16", "32", "64"));
  ASSERT_EQ(design.seeds_size(), 10);
  EXPECT_EQ(design.seeds(0), 1U);
  EXPECT_EQ(design.seeds(9), 10U);
  EXPECT_THAT(MakeDesign(plan->parts[1]).seeds(), ElementsAre(1, 2, 3, 4, 5));
  // Levels that set several fields become cells.
  const auto normalizers = MakePlan("normalizers", {});
  ASSERT_TRUE(normalizers.ok());
  const v1::Design cells = MakeDesign(normalizers->parts.front());
  ASSERT_EQ(cells.cells_size(), 24);
  EXPECT_EQ(cells.cells(4).values().at("normalization"), "batch");
  EXPECT_EQ(cells.cells(4).values().at("batch_size"), "2");
  EXPECT_EQ(cells.cells(4).values().at("optimizer.sgd.learning_rate"), "0.00625");
}

TEST(StudyTest, ChangesGoWhereTheyBelong) {
  const auto plan = MakePlan(
      "landscape", {.set = {"steps=100", "data=cifar10", "linear:optimizer.sgd.learning_rate=1e-7"},
                    .seeds = 7});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Part& vgg = plan->parts[0];
  const Part& linear = plan->parts[1];
  EXPECT_EQ(vgg.base.steps(), 100);
  EXPECT_EQ(linear.base.steps(), 100);
  // The deep linear network is a regression of its own.
  EXPECT_TRUE(vgg.base.data().has_cifar10());
  EXPECT_TRUE(linear.base.data().has_linear_regression());
  EXPECT_EQ(vgg.base.optimizer().sgd().learning_rate(), 0.1);
  EXPECT_EQ(linear.base.optimizer().sgd().learning_rate(), 1e-7);
  EXPECT_EQ(vgg.seeds.size(), 7U);
  EXPECT_EQ(vgg.base.data().train_limit(), 10000);
  // The prediction follows the steps.
  const auto whole = MakePlan("landscape", {});
  EXPECT_NEAR(vgg.core_seconds, whole->parts[0].core_seconds * 100 / 300, 1e-9);
}

TEST(StudyTest, WhatIsWrongIsNamedWithTheNearestName) {
  const auto message = [](absl::string_view study, PlanOptions options) {
    const auto plan = MakePlan(study, options);
    return plan.ok() ? std::string("ok") : std::string(plan.status().message());
  };
  EXPECT_THAT(message("landscap", {}),
              AllOf(HasSubstr("no study"), HasSubstr("did you mean landscape")));
  EXPECT_THAT(message("landscape", {.preset = "quik"}), HasSubstr("did you mean quick"));
  EXPECT_THAT(message("landscape", {.set = {"optimizer.sgd.learning_rat=1"}}),
              HasSubstr("learning_rate"));
  EXPECT_THAT(message("landscape", {.set = {"lineer:steps=1"}}), HasSubstr("did you mean linear"));
  EXPECT_THAT(message("landscape", {.set = {"steps"}}), HasSubstr("field=value"));
  EXPECT_THAT(message("landscape", {.set = {"normalization=layer"}}), HasSubstr("normalization"));
  EXPECT_THAT(message("landscape", {.set = {"seed=3"}}), HasSubstr("--seeds"));
  EXPECT_THAT(message("learning-rate", {.set = {"optimizer.sgd.learning_rate=1"}}),
              HasSubstr("axis rate"));
}

TEST(StudyTest, NoCommandIsSuggestedThatIsRefused) {
  // Both parts of landscape own the normalization, and both vary it.
  const auto normalization = MakePlan("landscape", {.set = {"normalization=layer"}});
  EXPECT_THAT(normalization.status().message(),
              AllOf(HasSubstr("is what axis mode"), Not(HasSubstr("if you mean it"))));
  // What only a part's definition fixes may be changed by name.
  const auto model = MakePlan("landscape", {.set = {"linear:model={\"deep_linear\": {}}"}});
  EXPECT_TRUE(model.ok()) << model.status();
}

TEST(StudyTest, ManyChangesAreCutOffButNeverForgotten) {
  PlanOptions options;
  for (int i = 0; i < 20; ++i) {
    options.set.push_back(absl::StrCat("vgg:steps=", 100 + i));
  }
  const auto plan = MakePlan("landscape", options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const auto& request : MakeRequests(*plan, "1", "")) {
    const std::string changes = request.experiment().labels().at(kChangesLabel);
    EXPECT_LE(changes.size(), 200U);
    EXPECT_THAT(changes, HasSubstr("--set vgg:steps=100"));
  }
}

TEST(StudyTest, TheSameRunHasTheSameRequestIds) {
  const auto plan = MakePlan("explosion", {.preset = "smoke"});
  ASSERT_TRUE(plan.ok());
  const auto first = MakeRequests(*plan, "0.1.0", "");
  const auto second = MakeRequests(*plan, "0.1.0", "");
  const auto other_version = MakeRequests(*plan, "0.2.0", "");
  const auto again = MakeRequests(*plan, "0.1.0", "x");
  const auto other = MakeRequests(
      *MakePlan("explosion", {.preset = "smoke", .set = {"training:steps=41"}}), "0.1.0", "");
  ASSERT_EQ(first.size(), 3U);
  std::set<std::string> ids;
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].request_id(), second[i].request_id());
    for (const auto* requests : {&first, &other_version, &again, &other}) {
      EXPECT_TRUE(ids.insert((*requests)[i].request_id()).second) << (*requests)[i].request_id();
      EXPECT_LE((*requests)[i].request_id().size(), 128U);
    }
    const auto& labels = first[i].experiment().labels();
    EXPECT_EQ(labels.at("study"), "explosion");
    EXPECT_EQ(labels.at("preset"), "smoke");
    EXPECT_EQ(labels.at("part"), plan->parts[i].name);
    EXPECT_EQ(labels.at("run"), first[0].experiment().labels().at("run"));
    EXPECT_EQ(first[i].experiment().base().labels().at("study"), "explosion");
  }
  EXPECT_EQ(other[2].experiment().labels().at("changes"), "--set training:steps=41");
}

}  // namespace
}  // namespace normlab::client::studies
