#include "server/api/experiment_jobs.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(LabelKeysTest, AreTheLastNamesWhereTheyDiffer) {
  EXPECT_THAT(LabelKeys({"normalization", "optimizer.sgd.learning_rate", "probes[0].every"}),
              ElementsAre("normalization", "learning_rate", "every"));
  EXPECT_THAT(LabelKeys({"probes[0].every", "probes[1].every", "model.mlp.activation"}),
              ElementsAre("probes-0-every", "probes-1-every", "activation"));
  EXPECT_THAT(LabelKeys({"model.custom.layers[12]"}), ElementsAre("layers"));
}

TEST(LabelKeysTest, HaveTheFormOfKeysHoweverLongThePath) {
  const std::string deep = std::string(70, 'a') + "." + std::string(70, 'b');
  for (const std::string& key : LabelKeys({deep, "x." + std::string(70, 'b')})) {
    EXPECT_LE(key.size(), 63u);
    EXPECT_THAT(key, EndsWith("bbb"));
  }
}

TEST(NameJobTest, TellsTheCellAndTheSeed) {
  v1::Experiment experiment;
  experiment.set_display_name("rates");
  (*experiment.mutable_labels())["study"] = "mine";
  (*experiment.mutable_labels())["batch_size"] = "the user's";
  v1::Job job;
  job.set_display_name("base");
  (*job.mutable_labels())["from"] = "base";
  const DesignCell cell = {.values = {{"normalization", "batch"}, {"batch_size", "60"}}};
  NameJob(experiment, cell, {"normalization", "batch_size"}, 7, job);
  EXPECT_EQ(job.display_name(), "rates: normalization=batch, batch_size=60, seed=7");
  EXPECT_THAT(job.labels(), UnorderedElementsAre(Pair("study", "mine"), Pair("from", "base"),
                                                 Pair("normalization", "batch"),
                                                 Pair("batch_size", "the user's")));
  v1::Job plain;
  NameJob(v1::Experiment(), {}, {}, 0, plain);
  EXPECT_EQ(plain.display_name(), "seed=0");
}

TEST(NameJobTest, StaysWithinTheLimitsOfTexts) {
  v1::Experiment experiment;
  experiment.set_display_name(std::string(200, 'n'));
  for (int i = 0; i < 31; ++i) {
    (*experiment.mutable_labels())[absl::StrCat("k", i)] = "v";
  }
  v1::Job job;
  const DesignCell cell = {.values = {{"a", std::string(500, 'x')}, {"b", "2"}}};
  NameJob(experiment, cell, {"a", "b"}, 12, job);
  EXPECT_EQ(job.display_name().size(), 200u);
  EXPECT_THAT(job.display_name(), EndsWith("...seed=12"));
  EXPECT_EQ(job.labels_size(), 32);
  EXPECT_EQ(job.labels().at("a").size(), 200u);
}

DesignCell CellOf(const std::string& value) {
  return {.values = {{"optimizer.sgd.learning_rate", value}}};
}

TEST(CellViolationsTest, WhatEveryCellHasIsTheBases) {
  CellViolations violations;
  EXPECT_TRUE(violations.empty());
  for (int i = 0; i < 3; ++i) {
    violations.Add(i, CellOf(absl::StrCat(i)), {{"model", "is missing"}});
  }
  violations.Add(1, CellOf("1"), {{"optimizer.sgd.learning_rate", "is too large"}});
  EXPECT_FALSE(violations.empty());
  const std::vector<FieldViolation> told = violations.Take(3);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].field, "base.model");
  EXPECT_EQ(told[0].description, "is missing");
  EXPECT_EQ(told[1].field, "cells[1].optimizer.sgd.learning_rate");
  EXPECT_EQ(told[1].description, "is too large (the cell of optimizer.sgd.learning_rate = 1)");
}

TEST(CellViolationsTest, TellsEachOnceAndCountsTheRest) {
  CellViolations violations;
  for (int i = 0; i < 5000; ++i) {
    violations.Add(
        i, CellOf(absl::StrCat(i)),
        {{"batch_size", i % 2 == 0 ? "is even" : "is odd"}, {"steps", absl::StrCat("is ", i)}});
  }
  const std::vector<FieldViolation> told = violations.Take(5000);
  ASSERT_EQ(told.size(), 101u);
  EXPECT_THAT(told[0].description, HasSubstr("and of 2499 more cells"));
  EXPECT_EQ(told[0].field, "cells[0].batch_size");
  EXPECT_EQ(told[100].field, "cells");
  EXPECT_THAT(told[100].description, HasSubstr("4902 more problems"));
}

}  // namespace
}  // namespace normlab::server
