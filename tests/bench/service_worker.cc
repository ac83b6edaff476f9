// Stands in for normlab-worker in the benchmark of the service: trains nothing, reports what the job's labels ask for,
// with the worker's own ring, packing, channel and threads. Every other command goes to the real program, whose path is
// compiled in.
//   bench-steps        steps to report
//   bench-interval-us  pause before each step; 0: as fast as the server takes them
//   bench-series       series of a step
// A job without labels holds its cores until it is cancelled. The last series of a paced job has the wall clock in
// microseconds when the step ended. A log line at the end has the CPU time that reporting took.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "engine/train/metric_sink.h"
#include "engine/worker/outbox.h"
#include "engine/worker/report_builder.h"
#include "engine/worker/report_channel.h"
#include "engine/worker/reporter.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {
namespace {

constexpr int kInheritedDescriptor = 3;

int64_t LabelOr(const v1::JobSpec& spec, const char* label, int64_t otherwise) {
  const auto it = spec.labels().find(label);
  return it == spec.labels().end() ? otherwise : std::atoll(it->second.c_str());
}

// Of all threads but this one, which stands for the training.
double ReportingSeconds() {
  const auto seconds = [](int who) {
    rusage usage = {};
    getrusage(who, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  return seconds(RUSAGE_SELF) - seconds(RUSAGE_THREAD);
}

v1::WorkerAssignment ReadAssignment() {
  std::string bytes;
  char buffer[65536];
  ssize_t count = 0;
  while ((count = read(kInheritedDescriptor, buffer, sizeof buffer)) > 0) {
    bytes.append(buffer, static_cast<size_t>(count));
  }
  close(kInheritedDescriptor);
  v1::WorkerAssignment assignment;
  if (!assignment.ParseFromString(bytes)) {
    std::exit(2);
  }
  return assignment;
}

int Run() {
  const v1::WorkerAssignment assignment = ReadAssignment();
  const v1::JobSpec& spec = assignment.resolved_spec();
  const bool holds = spec.labels().count("bench-steps") == 0;
  const int64_t steps = LabelOr(spec, "bench-steps", 0);
  const int64_t interval_us = LabelOr(spec, "bench-interval-us", 0);
  const auto columns = static_cast<size_t>(LabelOr(spec, "bench-series", 4));
  std::vector<std::string> series;
  for (size_t i = 0; i < columns; ++i) {
    series.push_back(absl::StrCat("bench/series-", i));
  }

  std::atomic<bool> stopped = false;
  ReportChannelOptions options;
  options.target = assignment.server();
  options.hello.set_protocol_version(1);
  options.hello.set_job(assignment.job());
  options.hello.set_attempt(assignment.attempt());
  options.hello.set_secret(assignment.secret());
  options.hello.mutable_plan()->set_total_steps(steps);
  options.hello.mutable_plan()->set_total_epochs(1);
  options.on_stop = [&stopped](const v1::StopRequest&) { stopped.store(true); };
  options.on_end = [](ChannelState, const absl::Status&) { _exit(1); };
  Outbox outbox(size_t{1} << 17);
  options.on_audience = [&outbox](bool watching) { outbox.SetWatched(watching); };
  ReportChannel channel(std::move(options));
  Reporter reporter(
      outbox,
      ReportBuilder(
          series,
          {.total_steps = steps, .total_epochs = 1, .steps_per_epoch = std::max<int64_t>(steps, 1)},
          assignment.attempt()),
      channel, {});
  const double cpu_before = ReportingSeconds();
  const absl::Time begin = absl::Now();
  for (int64_t step = 0; step < steps && !stopped.load(); ++step) {
    double stamp = static_cast<double>(step) * 0.001;
    if (interval_us > 0) {
      absl::SleepFor(begin + absl::Microseconds(interval_us * (step + 1)) - absl::Now());
      stamp = static_cast<double>(absl::ToUnixMicros(absl::Now()));
    }
    outbox.Step({.step = step,
                 .elapsed_us = absl::ToInt64Microseconds(absl::Now() - begin),
                 .step_seconds = 0.01F,
                 .examples = 1},
                columns, [&](size_t i) {
                  return SeriesValue{
                      static_cast<uint32_t>(i),
                      i + 1 == columns ? stamp : 1.0 / static_cast<double>(step + 1)};
                });
  }
  while (holds && !stopped.load()) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  outbox.Log(v1::LogLine::INFO,
             absl::StrFormat("bench: cpu %.6f wall %.6f", ReportingSeconds() - cpu_before,
                             absl::ToDoubleSeconds(absl::Now() - begin)));
  v1::Outcome outcome;
  outcome.set_state(stopped.load() ? v1::Job::CANCELLED : v1::Job::SUCCEEDED);
  outcome.mutable_result()->set_steps(steps);
  outbox.Finish(std::move(outcome));
  while (!reporter.WaitUntilDelivered(absl::Seconds(1))) {
    if (channel.state() != ChannelState::kOpen) {
      return 1;
    }
  }
  channel.Close();
  return 0;
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--run") {
    return normlab::engine::Run();
  }
  execv(NORMLAB_WORKER_BINARY, argv);
  return 127;
}
