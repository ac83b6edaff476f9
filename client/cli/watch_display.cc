#include "client/cli/watch_display.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "client/cli/job_view.h"
#include "client/cli/progress_tracker.h"
#include "client/cli/record_json.h"

namespace normlab::client {
namespace {

using normlab::v1::Heartbeat;
using normlab::v1::Job;
using normlab::v1::LogLine;
using normlab::v1::StateChange;

constexpr absl::Duration kRedrawInterval = absl::Milliseconds(100);
constexpr absl::Duration kPlainInterval = absl::Seconds(1);
constexpr absl::string_view kConnectedAgain = "connected again";

std::string StateLine(const Output& out, const StateChange& change) {
  std::string line = absl::StrCat(out.Paint(Color::kDim, FormatClock(change.time())), " ",
                                  PaintState(out, change.state()));
  if (change.attempt() > 1) {
    absl::StrAppend(&line, " (attempt ", change.attempt(), ")");
  }
  if (change.state() == Job::FAILED) {
    // The outcome, which follows, has the message; it may be a page of a worker's log.
    absl::StrAppend(&line, ": ", normlab::v1::FailureReason::Kind_Name(change.failure_reason()));
  } else if (!change.message().empty()) {
    absl::StrAppend(&line, ": ", Printable(change.message()));
  }
  return line;
}

std::string ReconnectLine(const absl::Status& reason) {
  return absl::StrCat("connection lost (", Printable(reason.message()), "); trying to get it back");
}

class LiveDisplay : public WatchDisplay {
 public:
  LiveDisplay(Output& out, const Job& job) : out_(out), tracker_(job), state_(job.state()) {}

  absl::Status OnMetrics(const MetricRecord& record) override {
    tracker_.OnMetrics(record);
    is_stale_ = true;
    return Draw(false);
  }
  void OnTick() override {
    if (is_stale_) {
      Draw(true).IgnoreError();  // kept in the output's status
    }
  }
  absl::Status OnState(int64_t /*sequence*/, const StateChange& change) override {
    state_ = change.state();
    return Print(StateLine(out_, change));
  }
  absl::Status OnLog(int64_t /*sequence*/, const LogLine& line) override {
    return Print(FormatLogLine(out_, line));
  }
  absl::Status OnHeartbeat(const Heartbeat& heartbeat) override {
    tracker_.OnProgress(heartbeat.progress());
    return Draw(true);
  }
  void OnReconnect(const absl::Status& reason, absl::Duration /*delay*/, int attempt) override {
    if (attempt == 1) {
      Print(ReconnectLine(reason)).IgnoreError();  // kept in the output's status
    }
  }
  void OnReconnected() override {
    Print(kConnectedAgain).IgnoreError();  // kept in the output's status
  }
  void Finish() override {
    Draw(true).IgnoreError();
    out_.Write("\n");
    out_.Flush();
  }

 private:
  static constexpr absl::string_view kEraseLine = "\r\x1b[K";

  absl::Status Print(absl::string_view line) {
    out_.Write(absl::StrCat(kEraseLine, line, "\n"));
    return Draw(true);
  }
  absl::Status Draw(bool now) {
    const absl::Time time = absl::Now();
    if (now || time >= last_draw_ + kRedrawInterval) {
      last_draw_ = time;
      is_stale_ = false;
      // One column stays free: at the last one some terminals wrap.
      out_.Write(absl::StrCat(kEraseLine, tracker_.LiveLine(out_, state_, out_.Width() - 1)));
      out_.Flush();
    }
    return out_.status();
  }

  Output& out_;
  ProgressTracker tracker_;
  Job::State state_;
  bool is_stale_ = false;
  absl::Time last_draw_ = absl::InfinitePast();
};

class PlainDisplay : public WatchDisplay {
 public:
  PlainDisplay(Output& out, Output& err, const Job& job) : out_(out), err_(err), tracker_(job) {}

  absl::Status OnMetrics(const MetricRecord& record) override {
    tracker_.OnMetrics(record);
    held_back_ |= IsTrainingStep(record);  // an evaluation has a line of its own
    if (IsEvaluation(record)) {
      return Print(
          absl::StrCat("evaluation at step ", record.step, ": ", FormatEvaluation(record)));
    }
    PrintProgressIfDue();
    return out_.status();
  }
  void OnTick() override { PrintProgressIfDue(); }
  absl::Status OnState(int64_t /*sequence*/, const StateChange& change) override {
    if (IsTerminal(change.state())) {
      PrintProgress();
    }
    return Print(StateLine(out_, change));
  }
  absl::Status OnLog(int64_t /*sequence*/, const LogLine& line) override {
    return Print(FormatLogLine(out_, line));
  }
  absl::Status OnHeartbeat(const Heartbeat& heartbeat) override {
    tracker_.OnProgress(heartbeat.progress());
    return out_.status();
  }
  void OnReconnect(const absl::Status& reason, absl::Duration /*delay*/, int attempt) override {
    if (attempt == 1) {
      err_.Write(absl::StrCat(ReconnectLine(reason), "\n"));
    }
  }
  void OnReconnected() override { err_.Write(absl::StrCat(kConnectedAgain, "\n")); }
  void Finish() override { PrintProgress(); }

 private:
  absl::Status Print(const std::string& line) {
    out_.Write(absl::StrCat(line, "\n"));
    out_.Flush();
    return out_.status();
  }
  void PrintProgressIfDue() {
    const absl::Time time = absl::Now();
    if (held_back_ && time >= last_progress_ + kPlainInterval) {
      last_progress_ = time;
      PrintProgress();
    }
  }
  // Unless nothing came since the last time.
  void PrintProgress() {
    if (held_back_) {
      held_back_ = false;
      Print(tracker_.PlainLine()).IgnoreError();  // kept in the output's status
    }
  }

  Output& out_;
  Output& err_;
  ProgressTracker tracker_;
  bool held_back_ = false;
  absl::Time last_progress_ = absl::InfinitePast();
};

class JsonDisplay : public WatchDisplay {
 public:
  JsonDisplay(Output& out, Output& err) : out_(out), err_(err) {}

  absl::Status OnMetrics(const MetricRecord& record) override {
    return Print(MetricsToJson(record));
  }
  absl::Status OnState(int64_t sequence, const StateChange& change) override {
    return Print(StateToJson(sequence, change));
  }
  absl::Status OnLog(int64_t sequence, const LogLine& line) override {
    return Print(LogToJson(sequence, line));
  }
  absl::Status OnBatchEnd() override {
    out_.Flush();
    return out_.status();
  }
  void OnReconnect(const absl::Status& reason, absl::Duration /*delay*/, int attempt) override {
    if (attempt == 1) {
      err_.Write(absl::StrCat(ReconnectLine(reason), "\n"));
    }
  }
  void Finish() override { out_.Flush(); }

 private:
  absl::Status Print(const std::string& line) {
    out_.Write(absl::StrCat(line, "\n"));
    return out_.status();
  }

  Output& out_;
  Output& err_;
};

}  // namespace

std::unique_ptr<WatchDisplay> MakeLiveDisplay(Output& out, const Job& job) {
  return std::make_unique<LiveDisplay>(out, job);
}

std::unique_ptr<WatchDisplay> MakePlainDisplay(Output& out, Output& err, const Job& job) {
  return std::make_unique<PlainDisplay>(out, err, job);
}

std::unique_ptr<WatchDisplay> MakeJsonDisplay(Output& out, Output& err) {
  return std::make_unique<JsonDisplay>(out, err);
}

}  // namespace normlab::client
