#include "client/cli/watch_session.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/cli/terminal_chart.h"
#include "client/cli/watch_display.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

constexpr int kSignalExitBase = 128;
constexpr int kWidestChart = 100;

// Shows nothing; the watch only waits.
class SilentDisplay : public WatchDisplay {
 public:
  absl::Status OnMetrics(const MetricRecord& /*record*/) override { return absl::OkStatus(); }
  absl::Status OnState(int64_t /*sequence*/, const normlab::v1::StateChange& /*change*/) override {
    return absl::OkStatus();
  }
  absl::Status OnLog(int64_t /*sequence*/, const normlab::v1::LogLine& /*line*/) override {
    return absl::OkStatus();
  }
  void Finish() override {}
};

std::unique_ptr<WatchDisplay> MakeDisplay(CommandContext& context,
                                          const Job& job,
                                          WatchOutput output) {
  if (output != WatchOutput::kRecords) {
    return std::make_unique<SilentDisplay>();
  }
  if (context.json()) {
    return MakeJsonDisplay(context.out(), context.err());
  }
  if (context.out().style().terminal) {
    return MakeLiveDisplay(context.out(), job);
  }
  return MakePlainDisplay(context.out(), context.err(), job);
}

}  // namespace

int ReportInterruption(CommandContext& context, int signal, const std::string& hint) {
  context.out().Flush();
  context.err().Write(absl::StrCat(hint, "\n"));
  return kSignalExitBase + signal;
}

std::string LossChart(Client& client, const Output& out, const std::string& name) {
  normlab::v1::ReadMetricsRequest request;
  request.set_name(name);
  request.add_series("train/loss");
  const int width = std::min(out.Width(), kWidestChart);
  request.set_max_points(4 * width);  // two braille dots a column, smallest and largest of each
  std::vector<int64_t> steps;
  std::vector<double> values;
  const absl::Status status =
      client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
        steps.insert(steps.end(), part.steps().begin(), part.steps().end());
        values.insert(values.end(), part.values().begin(), part.values().end());
        return absl::OkStatus();
      });
  if (!status.ok() || steps.empty()) {
    return "";
  }
  return RenderChart("train/loss", steps, values, {.width = width, .unicode = out.style().unicode});
}

int WatchToEnd(CommandContext& context,
               Client& client,
               const InterruptScope& interrupt,
               const std::string& name,
               int64_t after_sequence,
               WatchOutput output) {
  const absl::StatusOr<Job> job = client.GetJob(name);
  if (interrupt.signal() != 0) {
    return ReportInterruption(context, interrupt.signal(), "Stopped.");
  }
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  const std::unique_ptr<WatchDisplay> display = MakeDisplay(context, *job, output);
  const WatchResult result = client.WatchJob(name, after_sequence, *display);
  display->Finish();
  const std::string resume =
      absl::StrCat("normlab watch ", JobName(name), " --after ", result.last_sequence);
  if (result.state == Job::STATE_UNSPECIFIED) {
    if (interrupt.signal() != 0) {
      return ReportInterruption(
          context, interrupt.signal(),
          absl::StrCat("Stopped watching; ", JobName(name), " goes on. Watch on with: ", resume));
    }
    const int exit_code = context.Fail(result.status);
    if (!context.json() && !absl::IsNotFound(result.status) && !absl::IsOutOfRange(result.status)) {
      context.err().Write(absl::StrCat("Watch on with: ", resume, "\n"));
    }
    return exit_code;
  }
  if (output == WatchOutput::kNothing || (context.json() && output == WatchOutput::kRecords)) {
    return ExitCodeForState(result.state);
  }
  const absl::StatusOr<Job> ended = client.GetJob(name);
  if (!ended.ok()) {
    return context.Fail(ended.status());
  }
  if (context.json()) {
    context.PrintJson(*ended);
  } else {
    context.out().Write(DescribeOutcome(context.out(), *ended));
    if (context.out().style().terminal) {
      context.out().Write(LossChart(client, context.out(), JobName(name)));
    }
  }
  return ExitCodeForState(ended->state());
}

}  // namespace normlab::client
