// Rows about how much history there is. The databases are filled through the store's own interface, in this process and
// before the server starts, as writing them through the network would take most of the time.
#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "common/ids.h"
#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/store/store.h"
#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

namespace normlab::bench {
namespace {

using server::AttemptKey;
using server::Store;

// Counts answers, so that many writes are under way and the store commits them together.
class Flight {
 public:
  explicit Flight(int most) : most_(most) {}
  void Start() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return flying_ < most_; });
    ++flying_;
  }
  void End(const absl::Status& status) {
    const std::lock_guard lock(mu_);
    --flying_;
    if (!status.ok()) {
      failure_ = status;
    }
    changed_.notify_all();
  }
  absl::Status WaitForAll() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return flying_ == 0; });
    return failure_;
  }

 private:
  const int most_;
  std::mutex mu_;
  std::condition_variable changed_;
  int flying_ = 0;
  absl::Status failure_;
};

std::string IdOf(int64_t number) {
  return common::NewId(absl::FromUnixSeconds(1'700'000'000) + absl::Seconds(number));
}

v1::Job JobOf(const std::string& id, int64_t number) {
  v1::Job job;
  job.set_name(server::JobName(id));
  job.set_owner(absl::StrCat("owner-", number % 20));
  *job.mutable_spec() = SmallSpec();
  job.set_experiment(number % 100 == 0 ? absl::StrCat("experiments/e", number / 10'000) : "");
  (*job.mutable_labels())["parity"] = number % 2 == 0 ? "even" : "odd";
  (*job.mutable_labels())["late"] = number % 2 == 0 ? "no" : "yes";
  (*job.mutable_labels())["group"] = absl::StrCat(number % 1000);
  return job;
}

// Jobs that were made and cancelled, so that the server has nothing to do with them.
absl::Status FillCancelledJobs(Store& store, int64_t count) {
  Flight flight(4096);
  for (int64_t i = 0; i < count; ++i) {
    flight.Start();
    const std::string id = IdOf(i);
    store.CreateJob(
        JobOf(id, i), "", "", [&flight, &store, id](absl::StatusOr<Store::CreateResult> created) {
          if (!created.ok()) {
            flight.End(created.status());
            return;
          }
          store.UpdateJob(
              id,
              [](v1::Job& job, std::vector<v1::Segment>& records) {
                return server::RequestCancel(job, absl::Now(), records);
              },
              std::nullopt,
              [&flight](absl::StatusOr<v1::Job> cancelled) { flight.End(cancelled.status()); });
        });
  }
  return flight.WaitForAll();
}

absl::StatusOr<std::vector<std::string>> FillJobs(Store& store, int64_t count) {
  Flight flight(4096);
  std::vector<std::string> ids;
  for (int64_t i = 0; i < count; ++i) {
    flight.Start();
    ids.push_back(IdOf(i));
    store.CreateJob(
        JobOf(ids.back(), i), "", "",
        [&flight](absl::StatusOr<Store::CreateResult> result) { flight.End(result.status()); });
  }
  NORMLAB_RETURN_IF_ERROR(flight.WaitForAll());
  return ids;
}

// Ends a job after `steps` steps of one series, with a spike at a known step.
absl::Status FillPoints(Store& store, const std::string& id, int64_t steps) {
  NORMLAB_RETURN_IF_ERROR(
      store
          .UpdateJobAndWait(id,
                            [](v1::Job& job, std::vector<v1::Segment>& records) {
                              return server::BeginAttempt(job, {0}, 1, 0, absl::Now(), records);
                            })
          .status());
  NORMLAB_RETURN_IF_ERROR(
      store
          .UpdateJobAndWait(id,
                            [](v1::Job& job, std::vector<v1::Segment>& records) {
                              return server::MarkRunning(job, 1, absl::Now(), records);
                            })
          .status());
  constexpr int64_t kStepsPerReport = 10'000;
  Flight flight(64);
  int64_t number = 0;
  for (int64_t first = 0; first < steps; first += kStepsPerReport) {
    v1::WorkerReport report;
    report.set_number(++number);
    if (number == 1) {
      report.add_new_series()->set_id(1);
      report.mutable_new_series(0)->set_name("train/loss");
    }
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(1);
    const int64_t end = std::min(steps, first + kStepsPerReport);
    for (int64_t step = first; step < end; ++step) {
      block.add_steps(step);
      block.add_values(step == steps / 3 ? 1e6 : 1.0 / static_cast<double>(step + 1));
      block.add_elapsed_us(step * 1000);
    }
    if (end == steps) {
      report.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
      report.mutable_outcome()->mutable_result()->set_steps(steps);
    }
    flight.Start();
    store.AppendReport(
        AttemptKey{id, 1}, std::move(report),
        [&flight](absl::StatusOr<Store::AppendResult> result) { flight.End(result.status()); });
  }
  return flight.WaitForAll();
}

}  // namespace

absl::Status RunRestart(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  const int64_t jobs = options.quick ? 500 : 10'000;
  const int64_t large_jobs = options.quick ? 2 : 20;
  {
    NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                             Store::Open({.data_dir = folder.path()}));
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<std::string> ids, FillJobs(*store, jobs));
    // All ended, the large ones with a million points each.
    for (int64_t i = 0; i < jobs; ++i) {
      NORMLAB_RETURN_IF_ERROR(FillPoints(*store, ids[i], i < large_jobs ? 1'000'000 : 1));
    }
  }
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                             BenchServer::Start(folder.path()));
    seconds.push_back(absl::ToDoubleSeconds(server->start_time()));
  }
  const double median = Quantile(seconds, 0.5);
  table.push_back(
      {absl::StrCat("restart with ", jobs, " jobs and ", large_jobs, " M points: ready"),
       absl::StrFormat("%.2f s", median), "3 s", median <= 3, false});
  return absl::OkStatus();
}

absl::Status RunList(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  const int64_t jobs = options.quick ? 20'000 : 1'000'000;
  {
    NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                             Store::Open({.data_dir = folder.path()}));
    NORMLAB_RETURN_IF_ERROR(FillCancelledJobs(*store, jobs));
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto stub = v1::Jobs::NewStub(server->Connect());
  const std::vector<std::pair<std::string, std::string>> filters = {
      {"none", ""},
      {"state", "state=CANCELLED"},
      {"owner and state", "owner=owner-3 AND state=CANCELLED"},
      {"label", "labels.group=77"},
      {"two labels that no job has both of", "labels.parity=even AND labels.late=yes"},
      {"experiment", "experiment=experiments/e1"},
      {"time", "create_time>=2020-01-01T00:00:00Z"},
  };
  for (const auto& [what, filter] : filters) {
    std::vector<double> milliseconds;
    v1::ListJobsRequest request;
    request.set_filter(filter);
    request.set_page_size(100);
    {  // connects: that is not part of a page
      grpc::ClientContext context;
      v1::ListJobsRequest first;
      first.set_page_size(1);
      v1::ListJobsResponse response;
      stub->ListJobs(&context, first, &response);
    }
    size_t most = 0;
    for (int i = 0; i < (options.quick ? 100 : 300); ++i) {
      grpc::ClientContext context;
      v1::ListJobsResponse response;
      const absl::Time begin = absl::Now();
      const grpc::Status status = stub->ListJobs(&context, request, &response);
      milliseconds.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
      if (!status.ok()) {
        return absl::InternalError(status.error_message());
      }
      most = std::max(most, static_cast<size_t>(response.jobs_size()));
      // Page after page, so that not only the newest jobs are looked at.
      request.set_page_token(response.next_page_token());
    }
    const double p99 = Quantile(milliseconds, 0.99);
    table.push_back({absl::StrCat("page of 100 of ", jobs, " jobs, by ", what),
                     absl::StrFormat("p50 %.1f, p99 %.1f ms", Quantile(milliseconds, 0.5), p99),
                     "p99 20 ms", p99 <= 20, false});
  }
  return absl::OkStatus();
}

absl::Status RunCurve(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  const int64_t points = options.quick ? 200'000 : 10'000'000;
  const std::string id = IdOf(0);
  {
    NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                             Store::Open({.data_dir = folder.path()}));
    Flight flight(1);
    flight.Start();
    store->CreateJob(JobOf(id, 0), "", "", [&flight](absl::StatusOr<Store::CreateResult> result) {
      flight.End(result.status());
    });
    NORMLAB_RETURN_IF_ERROR(flight.WaitForAll());
    NORMLAB_RETURN_IF_ERROR(FillPoints(*store, id, points));
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto stub = v1::Jobs::NewStub(server->Connect());
  for (const int max_points : {1000, 0}) {
    v1::ReadMetricsRequest request;
    request.set_name(server::JobName(id));
    request.set_max_points(max_points);
    std::vector<double> milliseconds;
    for (int i = 0; i < (max_points == 0 ? 1 : 21); ++i) {
      grpc::ClientContext context;
      const absl::Time begin = absl::Now();
      auto reader = stub->ReadMetrics(&context, request);
      v1::ReadMetricsResponse response;
      int64_t came = 0;
      bool has_spike = false;
      while (reader->Read(&response)) {
        came += response.steps_size();
        for (const double value : response.values()) {
          has_spike = has_spike || value == 1e6;
        }
      }
      const grpc::Status status = reader->Finish();
      if (!status.ok() || !has_spike || (max_points == 0 && came != points) ||
          (max_points > 0 && came > max_points)) {
        return absl::InternalError(
            absl::StrCat("the curve has ", came, " points: ", status.error_message()));
      }
      milliseconds.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
    }
    const double median = Quantile(milliseconds, 0.5);
    if (max_points > 0) {
      table.push_back({absl::StrCat("curve of ", points, " points thinned to ", max_points),
                       absl::StrFormat("%.1f ms", median), "50 ms", median <= 50, false});
    } else {
      table.push_back(
          {absl::StrCat("export of all ", points, " points"),
           absl::StrFormat("%.2f M points/s", static_cast<double>(points) / median / 1000), "",
           true, false});
    }
  }
  return absl::OkStatus();
}

}  // namespace normlab::bench
