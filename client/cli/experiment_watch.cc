#include "client/cli/experiment_watch.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/cli/exit_code.h"
#include "client/cli/experiment_view.h"
#include "client/cli/watch_session.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;

constexpr int kCellsWhenWatched = 20;
constexpr int kCellsAtTheEnd = 50;

// Every change as a line.
class LineHandler final : public ExperimentHandler {
 public:
  explicit LineHandler(CommandContext& context) : context_(context) {}

  absl::Status OnExperiment(const Experiment& experiment) override {
    Output& out = context_.out();
    out.Write(context_.json() ? absl::StrCat(ToJson(experiment, false), "\n")
                              : absl::StrCat(experiment.name(), " ",
                                             FormatCounts(out, experiment.counts()), "\n"));
    out.Flush();
    return out.status();
  }
  void OnReconnect(const absl::Status& reason, int attempt) override {
    if (attempt == 1) {
      context_.err().Write(
          absl::StrCat("Connection lost (", reason.message(), "); trying again\n"));
    }
  }
  void OnReconnected() override { context_.err().Write("Connected again\n"); }

 private:
  CommandContext& context_;
};

class SilentHandler final : public ExperimentHandler {
 public:
  absl::Status OnExperiment(const Experiment& /*experiment*/) override { return absl::OkStatus(); }
};

// A table in place.
class TableHandler final : public ExperimentHandler {
 public:
  explicit TableHandler(Output& out) : out_(out) {}

  absl::Status OnExperiment(const Experiment& experiment) override {
    experiment_ = experiment;
    const int ended = EndedJobs(experiment.counts());
    if (began_ == absl::InfinitePast()) {
      began_ = absl::Now();
      ended_at_first_ = ended;
    }
    return Draw();
  }
  void OnTick() override {
    if (experiment_.name().empty() || absl::Now() - drawn_ < absl::Seconds(1)) {
      return;
    }
    Draw().IgnoreError();  // kept in the output's status
  }
  void OnReconnect(const absl::Status& /*reason*/, int /*attempt*/) override { lost_ = true; }
  void OnReconnected() override { lost_ = false; }
  // Leaves the cursor below an empty place.
  void Clear() {
    out_.Write(Erase());
    lines_ = 0;
    out_.Flush();
  }

 private:
  std::string Erase() const {
    return lines_ == 0 ? "" : absl::StrCat("\x1b[", lines_, "A\r\x1b[J");
  }

  // How long it takes at the pace so far; empty while nobody can tell.
  std::string Remaining() const {
    const int ended = EndedJobs(experiment_.counts());
    const int open = TotalJobs(experiment_.counts()) - ended - experiment_.counts().paused();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - began_);
    if (ended <= ended_at_first_ || open <= 0) {
      return "";
    }
    return absl::StrCat("; about ", FormatSeconds(seconds * open / (ended - ended_at_first_)),
                        " to go");
  }

  absl::Status Draw() {
    drawn_ = absl::Now();
    const std::string text = absl::StrCat(out_.Paint(Color::kBold, experiment_.name()), "  ",
                                          FormatCounts(out_, experiment_.counts()), Remaining(),
                                          lost_ ? "; connection lost, trying again" : "", "\n",
                                          CellTable(out_, experiment_, kCellsWhenWatched));
    const std::string erase = Erase();
    // A line that is too wide takes several: what is drawn over has to be counted so.
    lines_ = 0;
    std::string fitted;
    size_t begin = 0;
    while (begin < text.size()) {
      const size_t end = text.find('\n', begin);
      const std::string line = text.substr(begin, end - begin);
      // Colours take no columns; only a plain line is cut.
      const bool plain = line.find('\x1b') == std::string::npos;
      absl::StrAppend(&fitted, plain ? Shorten(line, out_.Width() - 1) : line, "\n");
      ++lines_;
      begin = end + 1;
    }
    out_.Write(absl::StrCat(erase, fitted));
    out_.Flush();
    return out_.status();
  }

  Output& out_;
  Experiment experiment_;
  int lines_ = 0;
  bool lost_ = false;
  absl::Time began_ = absl::InfinitePast();
  absl::Time drawn_ = absl::InfinitePast();
  int ended_at_first_ = 0;
};

}  // namespace

int ExperimentExitCode(const normlab::v1::JobCounts& counts) {
  if (counts.failed() > 0) {
    return kExitJobFailed;
  }
  return counts.cancelled() > 0 ? kExitCancelled : kExitSucceeded;
}

int WatchExperimentToEnd(CommandContext& context,
                         Client& client,
                         const InterruptScope& interrupt,
                         const std::string& name,
                         bool final_only) {
  TableHandler table(context.out());
  LineHandler lines(context);
  SilentHandler silent;
  const bool draws = context.out().style().terminal && !context.json();
  ExperimentHandler* handler = &lines;
  if (final_only) {
    handler = &silent;
  } else if (draws) {
    handler = &table;
  }
  const absl::StatusOr<Experiment> ended = client.WatchExperiment(name, *handler);
  if (draws && !final_only) {
    table.Clear();
  }
  if (!ended.ok()) {
    const std::string resume = absl::StrCat("normlab experiment watch ", ExperimentName(name));
    if (interrupt.signal() != 0) {
      return ReportInterruption(context, interrupt.signal(),
                                absl::StrCat("Stopped watching; ", ExperimentName(name),
                                             " goes on. Watch on with: ", resume));
    }
    const int exit_code = context.Fail(ended.status());
    if (!context.json() && !absl::IsNotFound(ended.status())) {
      context.err().Write(absl::StrCat("Watch on with: ", resume, "\n"));
    }
    return exit_code;
  }
  if (!context.json()) {
    context.out().Write(DescribeExperiment(context.out(), *ended, kCellsAtTheEnd));
    context.out().Write(
        absl::StrCat("Look at the results with: normlab experiment summary ", ended->name(), "\n"));
  } else if (final_only) {
    context.PrintJson(*ended);
  }
  return ExperimentExitCode(ended->counts());
}

}  // namespace normlab::client
