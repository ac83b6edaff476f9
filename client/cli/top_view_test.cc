#include "client/cli/top_view.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::client {
namespace {

using normlab::v1::Disk;
using normlab::v1::Job;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

constexpr int64_t kNow = 1'700'000'000;

Job MakeJob(const std::string& name, Job::State state, int64_t age_seconds, double loss) {
  Job job;
  job.set_name(name);
  job.set_state(state);
  job.mutable_create_time()->set_seconds(kNow - age_seconds);
  job.mutable_spec()->set_batch_size(50);
  job.mutable_progress()->set_step(250);
  job.mutable_progress()->set_total_steps(1000);
  job.mutable_progress()->set_examples_per_second(500);
  if (!std::isnan(loss)) {
    (*job.mutable_progress()->mutable_latest_metrics())["train/loss"] = loss;
  }
  job.mutable_estimate()->set_cores(2);
  job.mutable_estimate()->set_memory_bytes(int64_t{200} << 20);
  job.set_owner("ann");
  return job;
}

TopSample Sample() {
  TopSample sample;
  sample.time = absl::FromUnixSeconds(kNow);
  sample.info.mutable_start_time()->set_seconds(kNow - 7322);
  sample.info.set_cores(8);
  sample.info.set_reserved_cores(4);
  sample.info.set_running_jobs(2);
  sample.info.set_queued_jobs(1);
  Disk& disk = *sample.info.add_disks();
  disk.set_kind(Disk::DATA);
  disk.set_free_bytes(int64_t{3} << 30);
  sample.jobs = {MakeJob("jobs/waits", Job::QUEUED, 500, std::nan("")),
                 MakeJob("jobs/young", Job::RUNNING, 60, 0.25),
                 MakeJob("jobs/old", Job::RUNNING, 3661, 1.5)};
  sample.jobs[0].set_owner("bob");
  sample.jobs[1].mutable_progress()->set_examples_per_second(5000);
  return sample;
}

std::vector<std::string> Order(TopSort sort) {
  TopSample sample = Sample();
  SortTop(sort, sample);
  std::vector<std::string> names;
  for (const Job& job : sample.jobs) {
    names.push_back(job.name().substr(5));
  }
  return names;
}

TEST(TopViewTest, SortKeys) {
  EXPECT_THAT(Order(TopSort::kState), ElementsAre("old", "young", "waits"));
  EXPECT_THAT(Order(TopSort::kAge), ElementsAre("old", "waits", "young"));
  EXPECT_THAT(Order(TopSort::kLoss), ElementsAre("young", "old", "waits"));  // no loss comes last
  EXPECT_THAT(Order(TopSort::kEta), ElementsAre("young", "old", "waits"));
  EXPECT_THAT(Order(TopSort::kOwner), ElementsAre("old", "young", "waits"));
  for (const std::string& name : TopSortNames()) {
    EXPECT_EQ(TopSortNames()[static_cast<size_t>(TopSortOfName(name))], name);
    EXPECT_NE(TopSortOfKey(name[0], TopSort::kOwner),
              name == "owner" ? TopSort::kState : TopSort::kOwner);
  }
  EXPECT_EQ(TopSortOfKey('s', TopSort::kState), TopSort::kSpeed);
  EXPECT_EQ(TopSortOfKey('s', TopSort::kSpeed), TopSort::kState);
  EXPECT_EQ(TopSortOfKey('x', TopSort::kLoss), TopSort::kLoss);
}

TEST(TopViewTest, RowsHaveWhatOneWantsToKnow) {
  const Output out(stdout, {});
  TopSample sample = Sample();
  SortTop(TopSort::kState, sample);
  const std::vector<std::string> lines = absl::StrSplit(RenderTop(out, sample, 200), '\n');
  EXPECT_THAT(lines[0], HasSubstr("up 2:02:02, 2 running, 1 waiting"));
  EXPECT_THAT(lines[1], HasSubstr("cores 4/8, memory 0 B/0 B, data disk 3.0 GiB free"));
  EXPECT_THAT(lines[4],
              MatchesRegex("jobs/old +RUNNING +250/1000 +25% +10.0 +1:15 +1.5 +2 +200 MiB "
                           "+1:01:01 +ann .*"));
  EXPECT_THAT(lines[6],
              MatchesRegex("jobs/waits +QUEUED +250/1000 +25% +- +- +- +2 +200 MiB +8:20 +bob .*"));
}

// Whatever this machine's clock says: jobs were made by the server's.
TEST(TopViewTest, AgesAreByTheServersClock) {
  const Output out(stdout, {});
  TopSample sample = Sample();
  sample.info.mutable_time()->set_seconds(kNow);
  sample.time = absl::FromUnixSeconds(kNow) - absl::Hours(5);
  sample.jobs = {MakeJob("jobs/one", Job::RUNNING, 60, 0.25),
                 MakeJob("jobs/new", Job::QUEUED, -1, 0.25)};
  const std::vector<std::string> lines = absl::StrSplit(RenderTop(out, sample, 200), '\n');
  EXPECT_THAT(lines[0], HasSubstr("up 2:02:02"));
  EXPECT_THAT(lines[4], MatchesRegex("jobs/one .* MiB +1:00 +ann .*"));
  EXPECT_THAT(lines[5], MatchesRegex("jobs/new .* MiB +0:00 +ann .*"));
}

TEST(TopViewTest, NarrowTerminalsLoseWholeColumns) {
  const Output out(stdout, {});
  for (const int width : {20, 45, 80, 120}) {
    const std::vector<std::string> lines = absl::StrSplit(RenderTop(out, Sample(), width), '\n');
    for (const std::string& line : lines) {
      EXPECT_LE(DisplayWidth(line), width) << line;
    }
    EXPECT_EQ(lines[3].find("JOB"), 0U);
  }
  EXPECT_THAT(RenderTop(out, Sample(), 45), Not(HasSubstr("OWNER")));
  TopSample empty = Sample();
  empty.jobs.clear();
  EXPECT_THAT(RenderTop(out, empty, 80), HasSubstr("no job waits or runs"));
}

}  // namespace
}  // namespace normlab::client
