// Rows about calls that make jobs.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "common/status_macros.h"
#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

namespace normlab::bench {
namespace {

struct Created {
  std::vector<double> milliseconds;
  double seconds = 0;
  int failed = 0;
  std::string failure;
};

// `clients` connections, each of which makes `each` jobs one after the other.
Created CreateJobs(const BenchServer& server, int clients, int each) {
  std::vector<std::unique_ptr<v1::Jobs::Stub>> stubs;
  for (int i = 0; i < clients; ++i) {
    stubs.push_back(v1::Jobs::NewStub(server.Connect()));
  }
  std::vector<Created> results(clients);
  std::vector<std::thread> threads;
  std::atomic<bool> go = false;
  for (int i = 0; i < clients; ++i) {
    threads.emplace_back([&, i] {
      v1::CreateJobRequest request;
      *request.mutable_job()->mutable_spec() = SmallSpec();
      {  // connects
        grpc::ClientContext context;
        v1::Job job;
        request.set_validate_only(true);
        stubs[i]->CreateJob(&context, request, &job);
        request.set_validate_only(false);
      }
      go.wait(false);
      for (int n = 0; n < each; ++n) {
        request.set_request_id(absl::StrCat("bench-", clients, "-", i, "-", n));
        grpc::ClientContext context;
        v1::Job job;
        const absl::Time begin = absl::Now();
        const grpc::Status status = stubs[i]->CreateJob(&context, request, &job);
        results[i].milliseconds.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
        if (!status.ok()) {
          ++results[i].failed;
          results[i].failure = status.error_message();
        }
      }
    });
  }
  absl::SleepFor(absl::Milliseconds(500));
  const absl::Time begin = absl::Now();
  go.store(true);
  go.notify_all();
  for (std::thread& thread : threads) {
    thread.join();
  }
  Created all;
  all.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  for (Created& one : results) {
    all.milliseconds.insert(all.milliseconds.end(), one.milliseconds.begin(),
                            one.milliseconds.end());
    all.failed += one.failed;
    all.failure = one.failed > 0 ? one.failure : all.failure;
  }
  return all;
}

}  // namespace

absl::Status RunCreate(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  // The one core is taken: what is measured is not the starting of jobs.
  if (const Created holder = CreateJobs(*server, 1, 1); holder.failed > 0) {
    return absl::InternalError(holder.failure);
  }
  // All together stay below the default limit of the queue.
  Created many = CreateJobs(*server, 64, options.quick ? 20 : 140);
  if (many.failed > 0) {
    return absl::InternalError(absl::StrCat(many.failed, " calls failed: ", many.failure));
  }
  const double rate = static_cast<double>(many.milliseconds.size()) / many.seconds;
  const double p99 = Quantile(many.milliseconds, 0.99);
  table.push_back({"durable CreateJob, 64 clients",
                   absl::StrFormat("%.0f/s, p99 %.1f ms", rate, p99), "2,000/s, p99 50 ms",
                   rate >= 2000 && p99 <= 50, true});
  Created one = CreateJobs(*server, 1, options.quick ? 50 : 1000);
  const double p50 = Quantile(one.milliseconds, 0.5);
  table.push_back({"durable CreateJob, one client", absl::StrFormat("p50 %.2f ms", p50), "p50 2 ms",
                   p50 <= 2, true});
  return absl::OkStatus();
}

}  // namespace normlab::bench
