// Whether every subscriber gets every point, when there are many of them at once.
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/status_macros.h"
#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

namespace normlab::bench {
namespace {

constexpr int kSeries = 4;
constexpr int kSubscribers = 64;

// What the stand-in worker reports at a step without a pause.
double ValueOf(int64_t step, int series) {
  return series + 1 == kSeries ? static_cast<double>(step) * 0.001
                               : 1.0 / static_cast<double>(step + 1);
}

// Watches a job from its first record to its last and compares everything; "": all is there, once
// and in order.
std::string WatchExactly(const BenchServer& server, const std::string& name, int64_t steps) {
  const auto jobs = v1::Jobs::NewStub(server.Connect());
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  auto reader = jobs->WatchJob(&context, request);
  v1::WatchJobResponse response;
  int64_t last_sequence = 0;
  int64_t next_step = 0;
  bool terminal = false;
  std::string wrong;
  const auto fail = [&wrong](std::string what) {
    if (wrong.empty()) {
      wrong = std::move(what);
    }
  };
  while (reader->Read(&response)) {
    if (!response.has_records()) {
      continue;
    }
    if (response.records().first_sequence() != last_sequence + 1) {
      fail(absl::StrCat("record ", response.records().first_sequence(), " came after record ",
                        last_sequence));
    }
    last_sequence = response.records().first_sequence() - 1;
    for (const v1::Segment& segment : response.records().segments()) {
      if (!segment.has_metrics()) {
        ++last_sequence;
        terminal = segment.has_state() && segment.state().state() == v1::Job::SUCCEEDED;
        continue;
      }
      const v1::MetricBlock& block = segment.metrics();
      last_sequence += block.steps_size();
      for (int row = 0; row < block.steps_size(); ++row, ++next_step) {
        if (block.steps(row) != next_step) {
          fail(absl::StrCat("step ", block.steps(row), " came instead of step ", next_step));
          next_step = block.steps(row);
        }
        for (int series = 0; series < kSeries; ++series) {
          if (block.values(row * kSeries + series) != ValueOf(next_step, series)) {
            fail(absl::StrCat("series ", series, " is wrong at step ", next_step));
          }
        }
      }
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    return absl::StrCat("ended after record ", last_sequence, " with code ", status.error_code(),
                        ": ", status.error_message());
  }
  if (next_step != steps || !terminal) {
    fail(absl::StrCat("got ", next_step, " of ", steps, " steps, the end ",
                      terminal ? "included" : "missing"));
  }
  return wrong;
}

}  // namespace

absl::Status RunExact(const RowOptions& options, std::vector<Measured>& table) {
  const ScratchFolder folder(options.folder);
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchServer> server,
                           BenchServer::Start(folder.path()));
  const auto jobs = v1::Jobs::NewStub(server->Connect());
  const int64_t steps = options.quick ? 10'000 : 250'000;
  v1::CreateJobRequest request;
  v1::JobSpec& spec = *request.mutable_job()->mutable_spec();
  spec = SmallSpec();
  (*spec.mutable_labels())["bench-steps"] = absl::StrCat(steps);
  (*spec.mutable_labels())["bench-interval-us"] = absl::StrCat(0);
  (*spec.mutable_labels())["bench-series"] = absl::StrCat(kSeries);
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status created = jobs->CreateJob(&context, request, &job);
  if (!created.ok()) {
    return absl::InternalError(created.error_message());
  }
  // All from the start, while the job runs and its chunks are merged, and again when it is over.
  int wrong = 0;
  for (const char* when : {"live", "stored"}) {
    std::vector<std::thread> threads;
    std::mutex mu;
    std::string example;
    for (int i = 0; i < kSubscribers; ++i) {
      threads.emplace_back([&] {
        const std::string difference = WatchExactly(*server, job.name(), steps);
        if (!difference.empty()) {
          const std::lock_guard lock(mu);
          ++wrong;
          example = difference;
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    if (!example.empty()) {
      return absl::InternalError(
          absl::StrCat(wrong, " of ", kSubscribers, " ", when, " subscribers: ", example));
    }
  }
  table.push_back({absl::StrCat(kSubscribers, " subscribers, live and stored, each of ",
                                steps * kSeries, " points compared"),
                   absl::StrCat(wrong, " with a difference"), "0", wrong == 0, false});
  return absl::OkStatus();
}

}  // namespace normlab::bench
