// Rows about reports and streams.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_stream.h>

#include "common/status_macros.h"
#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

namespace normlab::bench {
namespace {

constexpr int kSeries = 4;

absl::StatusOr<std::string> Submit(v1::Jobs::Stub& jobs, int64_t steps, int64_t interval_us) {
  v1::CreateJobRequest request;
  v1::JobSpec& spec = *request.mutable_job()->mutable_spec();
  spec = SmallSpec();
  (*spec.mutable_labels())["bench-steps"] = absl::StrCat(steps);
  (*spec.mutable_labels())["bench-interval-us"] = absl::StrCat(interval_us);
  (*spec.mutable_labels())["bench-series"] = absl::StrCat(kSeries);
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = jobs.CreateJob(&context, request, &job);
  if (!status.ok()) {
    return absl::InternalError(status.error_message());
  }
  return job.name();
}

absl::StatusOr<v1::Job> Get(v1::Jobs::Stub& jobs, const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = jobs.GetJob(&context, request, &job);
  if (!status.ok()) {
    return absl::InternalError(status.error_message());
  }
  return job;
}

absl::Status WaitForState(v1::Jobs::Stub& jobs,
                          const std::string& name,
                          v1::Job::State state,
                          absl::Duration patience) {
  const absl::Time limit = absl::Now() + patience;
  while (true) {
    NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, Get(jobs, name));
    if (job.state() == state) {
      return absl::OkStatus();
    }
    if (job.state() >= v1::Job::SUCCEEDED || absl::Now() > limit) {
      return absl::InternalError(absl::StrCat(name, " is ", v1::Job::State_Name(job.state()),
                                              " instead of ", v1::Job::State_Name(state), ": ",
                                              job.failure().message()));
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
}

// Watches a whole job on a connection of its own; the points that came, or -1.
int64_t Replay(const BenchServer& server, const std::string& name) {
  const auto jobs = v1::Jobs::NewStub(server.Connect());
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  auto reader = jobs->WatchJob(&context, request);
  int64_t points = 0;
  v1::WatchJobResponse response;
  while (reader->Read(&response)) {
    for (const v1::Segment& segment : response.records().segments()) {
      points += segment.metrics().values_size();
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    std::cerr << "a watcher ended after " << points << " points: " << status.error_code() << " "
              << status.error_message() << "\n";
  }
  return status.ok() ? points : -1;
}

std::string Millions(double rate) {
  return absl::StrFormat("%.2f M points/s", rate / 1e6);
}

}  // namespace

absl::Status RunIngestAndReplay(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  const int64_t steps = options.quick ? 50'000 : 1'000'000;
  NORMLAB_ASSIGN_OR_RETURN(const std::string name, Submit(*jobs, steps, 0));
  NORMLAB_RETURN_IF_ERROR(WaitForState(*jobs, name, v1::Job::RUNNING, absl::Seconds(30)));
  const absl::Time begin = absl::Now();
  NORMLAB_RETURN_IF_ERROR(WaitForState(*jobs, name, v1::Job::SUCCEEDED, absl::Minutes(5)));
  const double rate =
      static_cast<double>(steps * kSeries) / absl::ToDoubleSeconds(absl::Now() - begin);
  table.push_back({"durable metric ingest, one worker", absl::StrFormat("%.0f points/s", rate),
                   "200,000 points/s", rate >= 200'000, true});
  for (const int subscribers : {1, 64}) {
    std::vector<double> rates;
    for (int round = 0; round < (subscribers == 1 ? 5 : 1); ++round) {
      std::atomic<int64_t> points = 0;
      std::vector<std::thread> threads;
      const absl::Time start = absl::Now();
      for (int i = 0; i < subscribers; ++i) {
        threads.emplace_back([&] {
          const int64_t came = Replay(*server, name);
          points += came == steps * kSeries ? came : -(int64_t{1} << 50);
        });
      }
      for (std::thread& thread : threads) {
        thread.join();
      }
      if (points.load() < 0) {
        return absl::InternalError("a subscriber did not get every point");
      }
      rates.push_back(static_cast<double>(points.load()) /
                      absl::ToDoubleSeconds(absl::Now() - start));
    }
    const double median = Quantile(rates, 0.5);
    table.push_back({absl::StrCat("replay to ", subscribers, " subscriber(s), in all"),
                     Millions(median), subscribers == 1 ? "2 M points/s" : "3 M points/s",
                     median >= (subscribers == 1 ? 2e6 : 3e6), false});
  }
  return absl::OkStatus();
}

// What reporting of a job costs while somebody follows it, or nobody does. [share of one core]
struct ReportingCost {
  double sender = 0;
  double server = 0;
};

absl::StatusOr<ReportingCost> MeasureReportingCost(const RowOptions& options, bool watched) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  constexpr int64_t kIntervalUs = 10'000;
  const int64_t steps = options.quick ? 200 : 2000;
  NORMLAB_ASSIGN_OR_RETURN(const std::string name, Submit(*jobs, steps, kIntervalUs));
  NORMLAB_RETURN_IF_ERROR(WaitForState(*jobs, name, v1::Job::RUNNING, absl::Seconds(30)));
  std::thread watcher;
  if (watched) {
    watcher = std::thread([&] { Replay(*server, name); });
  }
  const double before = server->Use().cpu_seconds;
  // Not asked all the time: that would be measured too.
  absl::SleepFor(absl::Microseconds(steps * kIntervalUs) - absl::Seconds(1));
  const double server_cpu = server->Use().cpu_seconds - before;
  const double measured_for = absl::ToDoubleSeconds(absl::Microseconds(steps * kIntervalUs)) - 1;
  if (watcher.joinable()) {
    watcher.join();
  }
  NORMLAB_RETURN_IF_ERROR(WaitForState(*jobs, name, v1::Job::SUCCEEDED, absl::Seconds(60)));
  v1::ReadLogsRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  auto reader = jobs->ReadLogs(&context, request);
  v1::ReadLogsResponse response;
  double sender_cpu = 0;
  double wall = 1;
  while (reader->Read(&response)) {
    if (absl::StartsWith(response.line().text(), "bench:")) {
      std::sscanf(response.line().text().c_str(), "bench: cpu %lf wall %lf", &sender_cpu, &wall);
    }
  }
  reader->Finish();
  return ReportingCost{sender_cpu / wall, server_cpu / measured_for};
}

absl::Status RunReportingCost(const RowOptions& options, std::vector<Measured>& table) {
  for (const bool watched : {false, true}) {
    NORMLAB_ASSIGN_OR_RETURN(const ReportingCost cost, MeasureReportingCost(options, watched));
    const double share = cost.sender + cost.server;
    table.push_back({absl::StrCat("sender and server CPU, 4 series, steps of 10 ms, ",
                                  watched ? "watched" : "nobody watches"),
                     absl::StrFormat("%.2f %% (sender %.2f, server %.2f)", 100 * share,
                                     100 * cost.sender, 100 * cost.server),
                     watched ? "(live delivery included)" : "1 % of training",
                     watched || share <= 0.01, false});
  }
  return absl::OkStatus();
}

absl::Status RunLive(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  const int64_t steps = options.quick ? 200 : 1500;
  NORMLAB_ASSIGN_OR_RETURN(const std::string name, Submit(*jobs, steps, 10'000));
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  auto reader = jobs->WatchJob(&context, request);
  v1::WatchJobResponse response;
  std::vector<double> milliseconds;
  while (reader->Read(&response)) {
    const auto now = static_cast<double>(absl::ToUnixMicros(absl::Now()));
    for (const v1::Segment& segment : response.records().segments()) {
      const v1::MetricBlock& block = segment.metrics();
      for (int row = 0; row < block.steps_size(); ++row) {
        milliseconds.push_back((now - block.values((row + 1) * kSeries - 1)) / 1000);
      }
    }
  }
  if (!reader->Finish().ok() || static_cast<int64_t>(milliseconds.size()) != steps) {
    return absl::InternalError("the watcher did not get every step");
  }
  const double p50 = Quantile(milliseconds, 0.5);
  const double p99 = Quantile(milliseconds, 0.99);
  table.push_back({"live delivery, step end to client",
                   absl::StrFormat("p50 %.1f, p99 %.1f ms", p50, p99), "p99 100 ms", p99 <= 100,
                   true});
  return absl::OkStatus();
}

absl::Status RunStalled(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path(), {"--stream_write_timeout=10m"}));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  const int subscribers = options.quick ? 50 : 500;
  // Enough that no reader gets all of it into its buffers.
  NORMLAB_ASSIGN_OR_RETURN(const std::string large, Submit(*jobs, 500'000, 0));
  NORMLAB_RETURN_IF_ERROR(WaitForState(*jobs, large, v1::Job::SUCCEEDED, absl::Minutes(5)));
  if (Replay(*server, large) < 0) {
    return absl::InternalError("the job cannot be replayed");
  }
  const int64_t before = server->Use().resident_bytes;
  struct Stalled {
    std::unique_ptr<v1::Jobs::Stub> jobs;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> reader;
  };
  std::vector<std::unique_ptr<Stalled>> stalled;
  v1::WatchJobRequest request;
  request.set_name(large);
  for (int i = 0; i < subscribers; ++i) {
    auto& one = *stalled.emplace_back(std::make_unique<Stalled>());
    one.jobs = v1::Jobs::NewStub(server->Connect());
    one.reader = one.jobs->WatchJob(&one.context, request);
    v1::WatchJobResponse first;
    one.reader->Read(&first);  // then nothing any more
  }
  // Until the transports have taken what they take.
  int64_t bytes = 0;
  for (int i = 0; i < 20; ++i) {
    absl::SleepFor(absl::Milliseconds(250));
    bytes = std::max(bytes, server->Use().resident_bytes);
  }
  const double megabytes = static_cast<double>(bytes - before) / 1e6;
  table.push_back({absl::StrCat(subscribers, " stalled subscribers, own connections: memory"),
                   absl::StrFormat("%.0f MB", megabytes), "48 MB", megabytes <= 48, false});
  for (const auto& one : stalled) {
    one->context.TryCancel();
    v1::WatchJobResponse rest;
    while (one->reader->Read(&rest)) {
    }
    one->reader->Finish();
  }
  return absl::OkStatus();
}

}  // namespace normlab::bench
