// What one server sustains: workers that report at once.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "common/status_macros.h"
#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

namespace normlab::bench {
namespace {

constexpr int64_t kIntervalUs = 10'000;
constexpr int kSeries = 4;

absl::StatusOr<std::vector<v1::Job>> ListAll(v1::Jobs::Stub& jobs) {
  std::vector<v1::Job> all;
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    const grpc::Status status = jobs.ListJobs(&context, request, &response);
    if (!status.ok()) {
      return absl::InternalError(status.error_message());
    }
    all.insert(all.end(), response.jobs().begin(), response.jobs().end());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

int64_t CountIn(const std::vector<v1::Job>& jobs, v1::Job::State state) {
  return std::count_if(jobs.begin(), jobs.end(),
                       [state](const v1::Job& job) { return job.state() == state; });
}

// Waits until all jobs are in the state.
absl::Status WaitForAll(v1::Jobs::Stub& jobs,
                        int64_t count,
                        v1::Job::State state,
                        absl::Duration patience) {
  const absl::Time limit = absl::Now() + patience;
  while (true) {
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Job> all, ListAll(jobs));
    if (CountIn(all, state) == count) {
      return absl::OkStatus();
    }
    if (absl::Now() > limit) {
      return absl::DeadlineExceededError(absl::StrCat(CountIn(all, state), " of ", count,
                                                      " jobs are ", v1::Job::State_Name(state),
                                                      " after ", absl::FormatDuration(patience)));
    }
    absl::SleepFor(absl::Milliseconds(500));
  }
}

absl::Status MeasureWorkers(const RowOptions& options, int workers, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(
      const std::unique_ptr<BenchServer> server,
      BenchServer::Start(folder.path(), {absl::StrCat("--cores=", workers), "--memory=64TiB"}));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  // Long enough for the last worker to begin while the first one still reports.
  const absl::Duration measured = absl::Seconds(options.quick ? 1 : 10);
  const absl::Duration lasts = measured + absl::Milliseconds(100) * workers + absl::Seconds(5);
  const int64_t steps = lasts / absl::Microseconds(kIntervalUs);
  for (int i = 0; i < workers; ++i) {
    v1::CreateJobRequest request;
    v1::JobSpec& spec = *request.mutable_job()->mutable_spec();
    spec = SmallSpec();
    (*spec.mutable_labels())["bench-steps"] = absl::StrCat(steps);
    (*spec.mutable_labels())["bench-interval-us"] = absl::StrCat(kIntervalUs);
    (*spec.mutable_labels())["bench-series"] = absl::StrCat(kSeries);
    grpc::ClientContext context;
    v1::Job job;
    const grpc::Status status = jobs->CreateJob(&context, request, &job);
    if (!status.ok()) {
      return absl::InternalError(status.error_message());
    }
  }
  NORMLAB_RETURN_IF_ERROR(WaitForAll(*jobs, workers, v1::Job::RUNNING, lasts));
  const double before = server->Use().cpu_seconds;
  const absl::Time begin = absl::Now();
  absl::SleepFor(measured);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  const BenchServer::Resources used = server->Use();
  const double cpu = (used.cpu_seconds - before) / seconds;
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Job> all, ListAll(*jobs));
  // Behind by what was trained since the last report that is stored.
  std::vector<double> behind;
  for (const v1::Job& job : all) {
    const auto& started = job.start_time();
    const double ran =
        absl::ToDoubleSeconds(absl::Now() - absl::FromUnixSeconds(started.seconds()) -
                              absl::Nanoseconds(started.nanos()));
    behind.push_back(
        std::max(ran - static_cast<double>(job.progress().step()) * kIntervalUs / 1e6, 0.0));
  }
  const double p99 = Quantile(behind, 0.99);
  table.push_back(
      {absl::StrCat(workers, " workers of 100 steps/s, 4 series, nobody watches"),
       absl::StrFormat("server %.3f cores (%.2f %% a worker), %.0f MB, behind p99 %.2f s", cpu,
                       100 * cpu / workers, static_cast<double>(used.resident_bytes) / 1e6, p99),
       "p99 2 s", p99 <= 2, true});
  return WaitForAll(*jobs, workers, v1::Job::SUCCEEDED, lasts + absl::Minutes(2));
}

}  // namespace

absl::Status RunWorkers(const RowOptions& options, std::vector<Measured>& table) {
  for (const int workers : {16, 64, 256}) {
    if (options.quick && workers > 16) {
      break;
    }
    NORMLAB_RETURN_IF_ERROR(MeasureWorkers(options, workers, table));
  }
  return absl::OkStatus();
}

}  // namespace normlab::bench
