#include "server/scheduler/job_data.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

v1::Job JobOf200Examples() {
  v1::Job job;
  v1::JobSpec& spec = *job.mutable_resolved_spec();
  spec.mutable_data()->mutable_fashion_mnist()->set_path("d");
  spec.set_batch_size(20);
  spec.set_epochs(2);
  v1::DataSummary& data = *job.mutable_data();
  data.set_channels(1);
  data.set_height(28);
  data.set_width(28);
  data.set_classes(10);
  data.set_train_examples(200);
  data.set_test_examples(50);
  job.mutable_progress()->set_total_steps(20);
  job.mutable_progress()->set_total_epochs(2);
  return job;
}

v1::DataReport ReportOf(const v1::DataSummary& data) {
  v1::DataReport report;
  report.set_data_cache("/cache/d");
  report.set_channels(data.channels());
  report.set_height(data.height());
  report.set_width(data.width());
  report.set_classes(data.classes());
  report.set_targets(data.targets());
  report.set_dense(data.dense());
  report.set_floats(data.floats());
  report.set_train_examples(data.train_examples());
  report.set_test_examples(data.test_examples());
  return report;
}

TEST(CorrectDataTest, AnotherNumberOfExamplesCorrectsTheTotals) {
  v1::Job job = JobOf200Examples();
  v1::DataReport report = ReportOf(job.data());
  report.set_train_examples(600);
  const std::string warning = CorrectData(report, job);
  EXPECT_THAT(warning, HasSubstr("200 training and 50 test examples of 1x28x28 bytes, 10 classes"));
  EXPECT_THAT(warning, HasSubstr("and has 600 training"));
  EXPECT_THAT(warning, HasSubstr("60 steps instead of 20"));
  EXPECT_EQ(job.data().train_examples(), 600);
  EXPECT_EQ(job.progress().total_steps(), 60);
  EXPECT_EQ(job.progress().total_epochs(), 2);
  EXPECT_EQ(CorrectData(report, job), "") << "told once";
}

TEST(CorrectDataTest, EveryPartOfTheShapeCounts) {
  const v1::Job job = JobOf200Examples();
  const auto corrects = [&](auto&& change) {
    v1::Job corrected = job;
    v1::DataReport report = ReportOf(job.data());
    change(report);
    return !CorrectData(report, corrected).empty();
  };
  EXPECT_FALSE(corrects([](v1::DataReport&) {}));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_channels(3); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_height(27); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_width(29); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_classes(11); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_targets(2); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_test_examples(51); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_dense(true); }));
  EXPECT_TRUE(corrects([](v1::DataReport& report) { report.set_floats(true); }));
}

TEST(CorrectDataTest, WhatIsNotKnownIsLeftAlone) {
  v1::Job job = JobOf200Examples();
  v1::DataReport report = ReportOf(job.data());
  report.set_train_examples(0);
  EXPECT_EQ(CorrectData(report, job), "");
  report.set_train_examples(600);
  job.clear_data();
  EXPECT_EQ(CorrectData(report, job), "");
  EXPECT_FALSE(job.has_data());
  EXPECT_EQ(job.progress().total_steps(), 20);
}

}  // namespace
}  // namespace normlab::server
