// What counting an event costs the server, in nanoseconds: printed as JSON for tests/bench/monitoring.
#include <chrono>
#include <cstdio>
#include <vector>

#include "server/monitor/metrics.h"

namespace {

template <typename Event>
double NanosecondsOf(int repeats, Event event) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) {
    event();
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  return spent.count() / repeats;
}

}  // namespace

int main() {
  normlab::server::Metrics metrics("bench");
  constexpr int kRepeats = 200'000;
  constexpr size_t kStepsInReport = 32;
  const std::vector<float> steps(kStepsInReport, 1e-3F);
  const double report = NanosecondsOf(kRepeats, [&] {
    metrics.OnReport(normlab::v1::Model::kMlp, kStepsInReport, 20 * kStepsInReport, steps, 100);
  });
  const double commit = NanosecondsOf(kRepeats, [&] { metrics.OnCommit(1e-3, 3); });
  std::printf("{\"report_ns\": %.1f, \"commit_ns\": %.1f, \"steps_in_report\": %zu}\n", report,
              commit, kStepsInReport);
  return 0;
}
