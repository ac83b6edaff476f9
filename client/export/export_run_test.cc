#include "client/export/export_run.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/export/event_file.h"
#include "client/export/point_rows.h"
#include "client/lib/testing/fake_jobs_service.h"
#include "common/atomic_file.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kStart = 1'700'000'000;  // of the second attempt, in seconds since 1970

FakeRecord Running(int64_t seconds) {
  normlab::v1::StateChange change;
  change.set_state(Job::RUNNING);
  change.mutable_time()->set_seconds(seconds);
  return change;
}

class ExportRunTest : public testing::Test {
 protected:
  ExportRunTest() : client_({.server = server_.address()}) {
    job_.set_name("jobs/a");
    job_.set_state(Job::SUCCEEDED);
    job_.mutable_resolved_spec()->set_seed(7);
    const std::vector<FakeRecord> records = {
        FakeState(Job::QUEUED),
        Running(kStart - 1000),
        FakePoints{.step = 0, .elapsed_us = 250'000, .values = {{"train/loss", 1.0 / 3}}},
        Running(kStart),
        FakePoints{.step = 1,
                   .elapsed_us = 500'001,
                   .values = {{"train/loss", std::nan("")}, {"layers/fc1/norm", 2.0}}},
        FakePoints{.step = 2, .elapsed_us = 600'000, .values = {{"test/loss", 0.5}}},
        FakeState(Job::SUCCEEDED)};
    job_.set_last_sequence(static_cast<int64_t>(records.size()));
    server_.AddJob(job_, records);
  }

  std::vector<std::string> Read(const std::vector<std::string>& series, int64_t last_sequence) {
    job_.set_last_sequence(last_sequence);
    std::vector<std::string> points;
    const absl::Status status =
        ReadPoints(client_, job_, series, [&](absl::Time wall_time, const MetricRecord& record) {
          for (size_t i = 0; i < record.series.size(); ++i) {
            points.push_back(absl::StrCat(*record.series[i], "@", record.step, "@",
                                          absl::ToUnixMicros(wall_time) - kStart * 1'000'000));
          }
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    return points;
  }

  FakeServer server_;
  Client client_;
  Job job_;
};

TEST_F(ExportRunTest, EveryPointOnceWithTheTimeOfItsAttempt) {
  server_.DropStreams({3});  // and across a break
  EXPECT_THAT(Read({}, 7), ElementsAre("train/loss@0@-999750000", "train/loss@1@500001",
                                       "layers/fc1/norm@1@500001", "test/loss@2@600000"));
  EXPECT_THAT(Read({"layers/*", "test/loss"}, 7),
              ElementsAre("layers/fc1/norm@1@500001", "test/loss@2@600000"));
}

TEST_F(ExportRunTest, ARunningJobIsReadToThePresent) {
  EXPECT_THAT(Read({}, 5), ElementsAre("train/loss@0@-999750000", "train/loss@1@500001",
                                       "layers/fc1/norm@1@500001"));
  EXPECT_THAT(Read({}, 0), ElementsAre());
}

TEST_F(ExportRunTest, RowsHaveAllThatIdentifiesAPoint) {
  const ExportRun run{.job = "jobs/a",
                      .experiment = "experiments/e",
                      .cell = 2,
                      .axes = {{"normalization", "{\"group\": {\"groups\": 4}}"}},
                      .seed_index = 0};
  const std::vector<std::string> axes = {"normalization", "batch_size"};
  EXPECT_EQ(
      PointCsvHeader(axes),
      "job,experiment,cell,normalization,batch_size,seed,state,series,step,wall_time,value\n");
  const std::string name = "train/loss";
  const std::vector<const std::string*> names = {&name};
  const std::vector<double> values = {1.0 / 3};
  const MetricRecord record{.sequence = 3, .step = 12, .series = names, .values = values};
  std::string csv;
  const absl::Time time = absl::FromUnixMicros(1'700'000'000'000'250);
  AppendPointCsv(axes, run, job_, time, record, csv);
  EXPECT_EQ(csv,
            "jobs/a,experiments/e,2,\"{\"\"group\"\": {\"\"groups\"\": 4}}\",,7,SUCCEEDED,"
            "train/loss,12,1700000000.000250,0.3333333333333333\n");
  std::string json;
  AppendPointJson({.job = "jobs/a"}, job_, time, record, json);
  EXPECT_EQ(json,
            "{\"job\":\"jobs/a\",\"seed\":7,\"state\":\"SUCCEEDED\",\"series\":\"train/loss\","
            "\"step\":\"12\",\"wallTime\":1700000000.000250,\"value\":0.3333333333333333}\n");
}

TEST_F(ExportRunTest, FoldersAreNamedByCellAndSeedAndStayInside) {
  EXPECT_EQ(RunFolder({.job = "jobs/abc"}, 1), "abc");
  EXPECT_EQ(RunFolder({.job = "jobs/../.."}, 1), "_..");
  EXPECT_EQ(
      RunFolder({.job = "jobs/x",
                 .experiment = "experiments/e",
                 .cell = 3,
                 .axes = {{"normalization", "batch"}, {"optimizer.sgd.learning_rate", "0.1"}}},
                5),
      "e/3,normalization=batch,learning_rate=0.1/seed=5");
  EXPECT_EQ(RunFolder({.job = "jobs/x",
                       .experiment = "experiments/e",
                       .cell = 0,
                       .axes = {{"data.arrays.path", "../../etc"}}},
                      5),
            "e/0,path=.._.._etc/seed=5");
}

TEST_F(ExportRunTest, AnEventFileAppearsWhenItIsComplete) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/normlab_events.", getpid());
  const std::string path = folder + "/run/events.out.tfevents.1";
  {
    absl::StatusOr<EventFile> abandoned = EventFile::Create(path, absl::UnixEpoch());
    ASSERT_TRUE(abandoned.ok()) << abandoned.status();
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::is_empty(folder + "/run"));
  absl::StatusOr<EventFile> file = EventFile::Create(path, absl::FromUnixSeconds(3));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Finish().ok());
  const absl::StatusOr<std::string> bytes = common::ReadFile(path);
  ASSERT_TRUE(bytes.ok());
  // Length 24; then wall_time 3.0 (1: fixed64), file_version (3: bytes).
  EXPECT_EQ(bytes->substr(0, 8), std::string("\x18\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(bytes->substr(12, 24),
            std::string("\x09\0\0\0\0\0\0\x08\x40\x1a\x0d", 11) + "brain.Event:2");
  EXPECT_EQ(bytes->size(), 8U + 4 + 24 + 4);
  EXPECT_THAT(EventFile::Create("/proc/no/such", absl::UnixEpoch()).status().message(),
              HasSubstr("another place"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace normlab::client
