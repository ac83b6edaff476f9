#include "server/monitor/metrics.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "server/monitor/testing.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

int SampleCount(const std::string& text) {
  int count = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    count += absl::StartsWith(line, "#") ? 0 : 1;
  }
  return count;
}

TEST(MetricsTest, EverythingExistsAtZeroFromTheStart) {
  Metrics metrics("1.2.3");
  const std::string text = metrics.Scrape();
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"RUNNING\"}"), "0");
  EXPECT_EQ(Sample(text, "normlab_build_info{version=\"1.2.3\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_steps_total{model=\"mlp\"}"), "0");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"WORKER_CRASHED\"}"), "0");
  EXPECT_EQ(Sample(text,
                   "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateJob\","
                   "grpc_service=\"normlab.v1.Jobs\",grpc_type=\"unary\"}"),
            "0");
  EXPECT_EQ(Sample(text,
                   "grpc_server_started_total{grpc_method=\"WatchJob\",grpc_service=\"normlab.v1."
                   "Jobs\",grpc_type=\"server_stream\"}"),
            "0");
  EXPECT_THAT(text, Not(HasSubstr("STATE_UNSPECIFIED")));
  EXPECT_EQ(Sample(text, "normlab_tls_certificate_not_after_seconds"), "absent") << "no TLS";
}

// The budget of time series that one server may make, whatever happens to it.
TEST(MetricsTest, NumberOfSeriesIsFixedAndSmall) {
  constexpr int kSeriesBudget = 1500;
  Metrics metrics("1.2.3");
  const int before = SampleCount(metrics.Scrape());
  for (int state = 0; state <= v1::Job::State_MAX + 2; ++state) {
    for (int reason = 0; reason <= v1::FailureReason::Kind_MAX + 2; ++reason) {
      metrics.OnTransition(static_cast<v1::Job::State>(state),
                           static_cast<v1::FailureReason::Kind>(reason));
      metrics.OnAttemptEnded(static_cast<v1::Job::State>(state),
                             static_cast<v1::FailureReason::Kind>(reason));
    }
  }
  metrics.OnReport(v1::Model::kMlp, 3, 30, {1e-3F, 2e-3F, 3e-3F}, 9);
  EXPECT_EQ(SampleCount(metrics.Scrape()), before);
  EXPECT_LT(before, kSeriesBudget);
}

TEST(MetricsTest, EventsAreCounted) {
  Metrics metrics("1.2.3");
  metrics.OnTransition(v1::Job::FAILED, v1::FailureReason::OUT_OF_MEMORY);
  metrics.OnTransition(v1::Job::QUEUED, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  metrics.OnTransition(v1::Job::QUEUED, v1::FailureReason::SERVER_LOST);
  metrics.OnAttemptStarted();
  metrics.OnAttemptEnded(v1::Job::DIVERGED, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  metrics.OnAttemptEnded(v1::Job::FAILED, v1::FailureReason::OUT_OF_MEMORY);
  metrics.OnQueueWait(2);
  metrics.OnReplayMismatch(5);
  metrics.OnCommit(0.0002, 7);
  metrics.OnSlowReaderCutOff();
  metrics.OnCheckpoint(0.02, 4096);
  metrics.OnCheckpoint(std::numeric_limits<double>::quiet_NaN(), -1);
  metrics.OnPeakMemory(95, 100);
  metrics.OnPeakMemory(1, 0);  // no ratio
  metrics.OnRecovered(Recovery::kRequeued);
  metrics.OnRecovered(Recovery::kFailed);
  const std::string text = metrics.Scrape();
  EXPECT_EQ(
      Sample(text, "normlab_job_transitions_total{reason=\"OUT_OF_MEMORY\",state=\"FAILED\"}"),
      "1");
  EXPECT_EQ(Sample(text, "normlab_job_transitions_total{reason=\"none\",state=\"QUEUED\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_job_transitions_total{reason=\"SERVER_LOST\",state=\"QUEUED\"}"),
            "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_started_total"), "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"DIVERGED\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"OUT_OF_MEMORY\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_queue_wait_seconds_sum"), "2");
  EXPECT_EQ(Sample(text, "normlab_replay_mismatches_total"), "5");
  EXPECT_EQ(Sample(text, "normlab_commit_operations_total"), "7");
  EXPECT_EQ(Sample(text, "normlab_commit_duration_seconds_bucket{le=\"0.00025\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_streams_cut_off_total"), "1");
  EXPECT_EQ(Sample(text, "normlab_checkpoint_bytes_total"), "4096");
  EXPECT_EQ(Sample(text, "normlab_checkpoint_duration_seconds_count"), "2");
  EXPECT_EQ(Sample(text, "normlab_checkpoint_duration_seconds_bucket{le=\"0.05\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_checkpoint_duration_seconds_sum"), "0.02");
  EXPECT_EQ(Sample(text, "normlab_memory_estimate_ratio_count"), "1");
  EXPECT_EQ(Sample(text, "normlab_memory_estimate_ratio_bucket{le=\"0.9\"}"), "0");
  EXPECT_EQ(Sample(text, "normlab_memory_estimate_ratio_bucket{le=\"1\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_jobs_recovered_total{how=\"requeued\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_jobs_recovered_total{how=\"failed\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_jobs_recovered_total{how=\"reconnected\"}"), "0");
}

TEST(MetricsTest, StepDurationsFallIntoTheirBuckets) {
  Metrics metrics("1.2.3");
  metrics.OnReport(v1::Model::kVgg, 4, 240,
                   {40e-6F, 250e-6F, 20.0F, std::numeric_limits<float>::quiet_NaN()}, 12);
  const std::string text = metrics.Scrape();
  EXPECT_EQ(Sample(text, "normlab_steps_total{model=\"vgg\"}"), "4");
  EXPECT_EQ(Sample(text, "normlab_examples_total{model=\"vgg\"}"), "240");
  EXPECT_EQ(Sample(text, "normlab_metric_points_total"), "12");
  // NaN counts as 0: a NaN in the sum would stay for ever.
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{model=\"vgg\",le=\"5e-05\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{model=\"vgg\",le=\"0.0002\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{model=\"vgg\",le=\"0.0005\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{model=\"vgg\",le=\"10\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{model=\"vgg\",le=\"+Inf\"}"), "4");
  EXPECT_NEAR(std::stod(Sample(text, "normlab_step_duration_seconds_sum{model=\"vgg\"}")), 20.00029,
              1e-5);
}

TEST(MetricsTest, GaugesAreSampledUntilTold) {
  Metrics metrics("1.2.3");
  int calls = 0;
  metrics.SetSampler([&calls] {
    ++calls;
    return ServiceSample{.jobs = {{v1::Job::QUEUED, 3}, {v1::Job::FAILED, 2}},
                         .queue_depth = 3,
                         .oldest_wait_seconds = 61.5,
                         .stream_subscribers = 4,
                         .stream_lag_records = 17,
                         .workers = 2,
                         .worker_cpu_seconds = 12.25,
                         .worker_resident_bytes = 5000,
                         .report_age_seconds = 0.5,
                         .cores_capacity = 8,
                         .cores_reserved = 5,
                         .memory_bytes_capacity = int64_t{1} << 40,
                         .memory_bytes_reserved = 12345678901,
                         .store_healthy = false,
                         .executor_healthy = false,
                         .ready = true,
                         .disk = {100, 40, 7, 3},
                         .work_disk = {{.size_bytes = 900, .free_bytes = 300}},
                         .certificate = {{.end = 1900000000, .files_healthy = false}}};
  });
  const std::string text = metrics.Scrape();
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"QUEUED\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"FAILED\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_queue_depth"), "3");
  EXPECT_EQ(Sample(text, "normlab_stream_subscribers"), "4");
  EXPECT_EQ(Sample(text, "normlab_cores{kind=\"reserved\"}"), "5");
  EXPECT_EQ(Sample(text, "normlab_memory_bytes{kind=\"reserved\"}"), "12345678901");
  EXPECT_EQ(Sample(text, "normlab_store_healthy"), "0");
  EXPECT_EQ(Sample(text, "normlab_executor_healthy"), "0");
  EXPECT_EQ(Sample(text, "normlab_queue_oldest_wait_seconds"), "61.5");
  EXPECT_EQ(Sample(text, "normlab_stream_lag_records"), "17");
  EXPECT_EQ(Sample(text, "normlab_workers"), "2");
  EXPECT_EQ(Sample(text, "normlab_worker_cpu_seconds_total"), "12.25");
  EXPECT_EQ(Sample(text, "normlab_worker_resident_memory_bytes"), "5000");
  EXPECT_EQ(Sample(text, "normlab_worker_report_age_seconds"), "0.5");
  EXPECT_EQ(Sample(text, "normlab_data_disk_size_bytes"), "100");
  EXPECT_EQ(Sample(text, "normlab_data_disk_free_bytes"), "40");
  EXPECT_EQ(Sample(text, "normlab_ready"), "1");
  EXPECT_EQ(Sample(text, "normlab_work_disk_size_bytes"), "900");
  EXPECT_EQ(Sample(text, "normlab_work_disk_free_bytes"), "300");
  EXPECT_EQ(Sample(text, "normlab_database_bytes{file=\"main\"}"), "7");
  EXPECT_EQ(Sample(text, "normlab_database_bytes{file=\"wal\"}"), "3");
  EXPECT_EQ(std::stod(Sample(text, "normlab_tls_certificate_not_after_seconds")), 1.9e9);
  EXPECT_EQ(Sample(text, "normlab_tls_files_healthy"), "0");
  metrics.StopSampling();
  EXPECT_EQ(Sample(metrics.Scrape(), "normlab_jobs{state=\"QUEUED\"}"), "3");
  EXPECT_EQ(calls, 1);
}

TEST(MetricsTest, ProcessMetricsAreOfThisProcess) {
  Metrics metrics("1.2.3");
  const std::string text = metrics.Scrape();
  const double resident = std::stod(Sample(text, "process_resident_memory_bytes"));
  EXPECT_GT(resident, 1e6);
  EXPECT_LT(resident, std::stod(Sample(text, "process_virtual_memory_bytes")));
  const double start = std::stod(Sample(text, "process_start_time_seconds"));
  // A test runs for minutes at most, and boot time is known to the second.
  EXPECT_NEAR(start, static_cast<double>(time(nullptr)), 1000);
  EXPECT_GE(std::stod(Sample(text, "process_open_fds")), 3);
}

// The alert NormlabFilesRunOut, and those that look at the start time, are needed just then.
TEST(MetricsTest, ProcessMetricsStayWhenFilesRunOut) {
  Metrics metrics("1.2.3");
  metrics.Scrape();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {.rlim_cur = 40, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<common::UniqueFd> taken;
  do {
    taken.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  } while (taken.back().valid() && taken.size() < 100);
  const bool none_left = !taken.back().valid() && errno == EMFILE;
  const std::string text = metrics.Scrape();
  taken.clear();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(none_left);
  EXPECT_EQ(Sample(text, "process_open_fds"), "40");
  EXPECT_EQ(Sample(text, "process_max_fds"), "40");
  EXPECT_GT(std::stod(Sample(text, "process_start_time_seconds")), 1e9);
  EXPECT_GT(std::stod(Sample(text, "process_resident_memory_bytes")), 1e6);
}

TEST(MetricsTest, PromtoolAcceptsTheExposition) {
  Metrics metrics("1.2.3");
  metrics.OnReport(v1::Model::kResnet, 1, 60, {1e-3F}, 3);
  const std::string path = ::testing::TempDir() + absl::StrCat("/metrics.", getpid());
  std::ofstream(path) << metrics.Scrape();
  EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", path).c_str()), 0)
      << "promtool comes with the package prometheus";
  unlink(path.c_str());
}

}  // namespace
}  // namespace normlab::server
