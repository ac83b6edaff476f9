#include "client/cli/job_view.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "client/cli/net_view.h"
#include "client/cli/spec_view.h"
#include "client/lib/number_format.h"
#include "client/lib/proto_time.h"
#include "client/lib/record_decoder.h"

namespace normlab::client {
namespace {

using google::protobuf::Map;
using google::protobuf::Timestamp;
using normlab::v1::Attempt;
using normlab::v1::Job;

bool IsSet(const Timestamp& timestamp) {
  return timestamp.seconds() != 0;
}

double SecondsBetween(const Timestamp& from, const Timestamp& to) {
  return absl::ToDoubleSeconds(ToTime(to) - ToTime(from));
}

// "2.3e-05", or "87.62%" for a series of shares.
std::string FormatMetric(absl::string_view series, double value) {
  if (absl::EndsWith(series, "/accuracy")) {
    return absl::StrFormat("%.2f%%", 100 * value);
  }
  return FormatRounded(value);
}

std::string MetricLines(const Map<std::string, double>& metrics) {
  const std::map<std::string, double> sorted(metrics.begin(), metrics.end());
  int width = 0;
  for (const auto& [series, value] : sorted) {
    width = std::max(width, DisplayWidth(series));
  }
  std::string text;
  for (const auto& [series, value] : sorted) {
    absl::StrAppend(&text, "  ", PadRight(Printable(series), width), "  ",
                    FormatMetric(series, value), "\n");
  }
  return text;
}

std::string FailureText(const normlab::v1::Failure& failure) {
  return absl::StrCat(normlab::v1::FailureReason::Kind_Name(failure.reason()), ": ",
                      Printable(failure.message()));
}

void AppendField(absl::string_view label, const std::string& value, std::string* text) {
  constexpr int kLabelWidth = 15;
  if (!value.empty()) {
    absl::StrAppend(text, "  ", PadRight(label, kLabelWidth), value, "\n");
  }
}

std::string ProgressText(const normlab::v1::Progress& progress) {
  if (progress.total_steps() == 0) {
    return "";
  }
  return absl::StrCat(
      "step ", progress.step(), " of ", progress.total_steps(),
      progress.total_epochs() > 0
          ? absl::StrCat(", epoch ", std::min(progress.epoch() + 1, progress.total_epochs()),
                         " of ", progress.total_epochs())
          : "");
}

std::string AttemptText(const Attempt& attempt, const Job& job) {
  std::string text = absl::StrCat(attempt.number(), " ", Attempt::State_Name(attempt.state()));
  if (IsSet(attempt.start_time())) {
    absl::StrAppend(&text, ", started ", FormatTimestamp(attempt.start_time()));
  }
  if (!attempt.placement().empty()) {
    absl::StrAppend(&text, ", ", attempt.placement());
  } else if (!attempt.cores().empty()) {
    absl::StrAppend(&text, ", cores ", absl::StrJoin(attempt.cores(), ","));
  }
  if (attempt.start_step() > 0) {
    absl::StrAppend(&text, ", from step ", attempt.start_step());
  }
  if (attempt.replay_mismatches() > 0) {
    absl::StrAppend(&text, ", ", attempt.replay_mismatches(), " repeated points differed");
  }
  if (attempt.has_failure()) {
    // The failure that ended the job has a line of its own.
    const bool is_the_jobs = attempt.failure().message() == job.failure().message();
    absl::StrAppend(&text, ", ",
                    is_the_jobs ? normlab::v1::FailureReason::Kind_Name(attempt.failure().reason())
                                : FailureText(attempt.failure()));
  }
  return text;
}

}  // namespace

std::string PaintState(const Output& out, Job::State state) {
  Color color = Color::kPlain;
  switch (state) {
    case Job::SUCCEEDED:
      color = Color::kGreen;
      break;
    case Job::FAILED:
    case Job::DIVERGED:
      color = Color::kRed;
      break;
    case Job::CANCELLED:
    case Job::PAUSED:
      color = Color::kYellow;
      break;
    case Job::RUNNING:
    case Job::STARTING:
      color = Color::kCyan;
      break;
    default:
      break;
  }
  const std::string& name = Job::State_Name(state);
  return out.Paint(color, name.empty() ? absl::StrCat("STATE_", static_cast<int>(state)) : name);
}

std::string FormatTimestamp(const Timestamp& time) {
  return IsSet(time) ? absl::FormatTime("%Y-%m-%d %H:%M:%S", ToTime(time), absl::LocalTimeZone())
                     : "-";
}

std::string FormatClock(const Timestamp& time) {
  return absl::FormatTime("%H:%M:%S", IsSet(time) ? ToTime(time) : absl::Now(),
                          absl::LocalTimeZone());
}

std::string FormatLogLine(const Output& out, const normlab::v1::LogLine& line) {
  using normlab::v1::LogLine;
  absl::string_view severity = "INFO ";
  Color color = Color::kPlain;
  if (line.severity() == LogLine::WARNING) {
    severity = "WARN ";
    color = Color::kYellow;
  } else if (line.severity() == LogLine::ERROR) {
    severity = "ERROR";
    color = Color::kRed;
  }
  return absl::StrCat(out.Paint(Color::kDim, FormatClock(line.time())), " ",
                      out.Paint(color, severity), " ", Printable(line.text()));
}

std::string DescribeData(const normlab::v1::DataSummary& data) {
  const std::string shape =
      data.dense() ? absl::StrCat(data.channels(), data.channels() == 1 ? " feature" : " features")
                   : absl::StrCat(data.channels(), data.channels() == 1 ? " channel" : " channels",
                                  " of ", data.height(), "x", data.width());
  const std::string answers =
      data.targets() > 0
          ? absl::StrCat(data.targets(), data.targets() == 1 ? " target" : " targets")
          : absl::StrCat(data.classes(), " classes");
  return absl::StrCat(shape, data.floats() ? " (floats), " : " (bytes), ", answers, ", ",
                      data.train_examples(), " training and ", data.test_examples(),
                      " test examples");
}

std::string DescribeJob(const Output& out, const Job& job) {
  std::string text =
      absl::StrCat(out.Paint(Color::kBold, job.name()), "  ", PaintState(out, job.state()), "\n");
  AppendField("name", Printable(job.display_name()), &text);
  const std::map<std::string, std::string> labels(job.labels().begin(), job.labels().end());
  AppendField("labels", Printable(absl::StrJoin(labels, ", ", absl::PairFormatter("="))), &text);
  AppendField("model", FormatModel(job.spec().model()), &text);
  AppendField("data", FormatData(job.spec().data()), &text);
  if (job.has_data()) {
    AppendField("read as", DescribeData(job.data()), &text);
  }
  AppendField("normalization", FormatNormalizations(job.spec()), &text);
  AppendField("processes", FormatDataParallel(job.resolved_spec()), &text);
  AppendField("optimizer", FormatOptimizer(job.spec().optimizer()), &text);
  if (job.spec().has_schedule()) {
    AppendField("schedule", FormatSchedule(job.spec().schedule()), &text);
  }
  if (job.spec().has_initial_weights()) {
    AppendField("weights from", Printable(job.spec().initial_weights().path()), &text);
  }
  AppendField("owner", Printable(job.owner()), &text);
  AppendField("priority", job.priority() == 0 ? "" : absl::StrCat(job.priority()), &text);
  AppendField("created", FormatTimestamp(job.create_time()), &text);
  if (IsSet(job.start_time())) {
    AppendField("started", FormatTimestamp(job.start_time()), &text);
  }
  if (IsSet(job.end_time())) {
    AppendField("ended", FormatTimestamp(job.end_time()), &text);
  }
  if (IsSet(job.cancel_request_time()) && !IsTerminal(job.state())) {
    AppendField("cancelling", absl::StrCat("since ", FormatTimestamp(job.cancel_request_time())),
                &text);
  }
  if (IsSet(job.pause_request_time())) {
    AppendField("pausing", absl::StrCat("since ", FormatTimestamp(job.pause_request_time())),
                &text);
  }
  AppendField(job.state() == normlab::v1::Job::RUNNING ? "silent" : "waiting",
              Printable(job.queue_reason()), &text);
  AppendField("progress", ProgressText(job.progress()), &text);
  if (job.has_estimate()) {
    AppendField(
        "reserved",
        absl::StrCat(job.estimate().cores(), job.estimate().cores() == 1 ? " core, " : " cores, ",
                     FormatBytes(static_cast<double>(job.estimate().memory_bytes())), "; ",
                     FormatCount(static_cast<double>(job.estimate().parameters())), " parameters"),
        &text);
  }
  for (const Attempt& attempt : job.attempts()) {
    AppendField("attempt", AttemptText(attempt, job), &text);
  }
  if (job.has_failure()) {
    AppendField("failure", FailureText(job.failure()), &text);
  }
  for (const std::string& warning : job.warnings()) {
    AppendField(out.Paint(Color::kYellow, "warning"), Printable(warning), &text);
  }
  if (job.has_result()) {
    AppendField("weights",
                job.result().weights_sha256().empty()
                    ? ""
                    : absl::StrCat("sha256 ", job.result().weights_sha256()),
                &text);
    absl::StrAppend(&text, MetricLines(job.result().final_metrics()));
  } else {
    absl::StrAppend(&text, MetricLines(job.progress().latest_metrics()));
  }
  return text;
}

std::string DescribeOutcome(const Output& out, const Job& job) {
  std::string text =
      absl::StrCat(out.Paint(Color::kBold, job.name()), " ", PaintState(out, job.state()));
  if (job.has_result()) {
    absl::StrAppend(&text, job.state() == Job::DIVERGED ? " at step " : " after ",
                    job.result().steps(), job.state() == Job::DIVERGED ? "" : " steps");
  }
  if (job.result().training_seconds() > 0) {
    absl::StrAppend(&text,
                    absl::StrFormat(", %.1f s of training", job.result().training_seconds()));
  } else if (IsSet(job.start_time()) && IsSet(job.end_time())) {
    absl::StrAppend(&text,
                    absl::StrFormat(", %.1f s", SecondsBetween(job.start_time(), job.end_time())));
  }
  absl::StrAppend(&text, "\n");
  if (job.has_failure()) {
    absl::StrAppend(&text, "  ", FailureText(job.failure()), "\n");
  }
  // The accuracy has a line of its own.
  Map<std::string, double> metrics = job.result().final_metrics();
  const auto accuracy = metrics.find("test/accuracy");
  std::string summary;
  if (accuracy != metrics.end()) {
    summary = absl::StrCat(
        out.Paint(Color::kBold, absl::StrFormat("test accuracy: %.2f%%", 100 * accuracy->second)),
        "\n");
    metrics.erase(accuracy);
  }
  return absl::StrCat(text, MetricLines(metrics), summary);
}

std::string JobTable(const Output& out, const std::vector<Job>& jobs, bool with_header) {
  constexpr size_t kColumns = 9;
  constexpr size_t kStateColumn = 1;
  constexpr int kWidestNet = 20;
  constexpr int kWidestNormalization = 20;
  constexpr int kWidestDisplayName = 24;
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "STATE", "NET", "NORM", "STEP", "LOSS", "TEST ACC", "CREATED", "DISPLAY NAME"}};
  for (const Job& job : jobs) {
    const Map<std::string, double>& metrics =
        job.has_result() ? job.result().final_metrics() : job.progress().latest_metrics();
    const auto metric = [&](const std::string& series) {
      const auto found = metrics.find(series);
      return found == metrics.end() ? "-" : FormatMetric(series, found->second);
    };
    rows.push_back({job.name(), Job::State_Name(job.state()),
                    Shorten(FormatNet(job.spec().model()), kWidestNet),
                    Shorten(FormatNormalization(job.spec().normalization()), kWidestNormalization),
                    job.progress().total_steps() == 0
                        ? "-"
                        : absl::StrCat(job.progress().step(), "/", job.progress().total_steps()),
                    metric("train/loss"), metric("test/accuracy"),
                    FormatTimestamp(job.create_time()),
                    Shorten(Printable(job.display_name()), kWidestDisplayName)});
  }
  std::vector<int> widths(kColumns, 0);
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  std::string text;
  for (size_t r = with_header ? 0 : 1; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < kColumns; ++i) {
      const bool is_last = i + 1 == kColumns;
      std::string cell = is_last ? rows[r][i] : PadRight(rows[r][i], widths[i] + 2);
      if (r == 0) {
        cell = out.Paint(Color::kBold, cell);
      } else if (i == kStateColumn) {
        cell = absl::StrCat(
            PaintState(out, jobs[r - 1].state()),
            std::string(static_cast<size_t>(widths[i] + 2 - DisplayWidth(rows[r][i])), ' '));
      }
      absl::StrAppend(&line, cell);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
    if (r > 0 && !jobs[r - 1].queue_reason().empty()) {
      absl::StrAppend(&text, "  ", out.Paint(Color::kDim, Printable(jobs[r - 1].queue_reason())),
                      "\n");
    }
  }
  return text;
}

}  // namespace normlab::client
