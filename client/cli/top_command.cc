#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/terminal_screen.h"
#include "client/cli/top_view.h"
#include "client/lib/backoff.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::ListJobsResponse;

constexpr int kMostRows = 1000;
// Two about the server, an empty one, the titles, and below the jobs the hint.
constexpr int kLinesBesideJobs = 5;

struct TopOptions {
  double delay_seconds = 2;
  int iterations = 0;  // 0: for ever on a terminal, once elsewhere
  int rows = 0;        // 0: what the terminal shows; 100 elsewhere
  std::string sort = "state";
  bool all = false;
};

// Adds the newest `count` jobs in `state`, or in any when it is empty.
absl::Status AddJobs(Client& client, const std::string& state, int count, TopSample& sample) {
  normlab::v1::ListJobsRequest request;
  request.set_page_size(std::min(count, kMostRows));
  request.set_filter(state.empty() ? "" : absl::StrCat("state=", state));
  const absl::StatusOr<ListJobsResponse> page = client.ListJobs(request);
  if (page.ok()) {
    sample.jobs.insert(sample.jobs.end(), page->jobs().begin(), page->jobs().end());
  }
  return page.status();
}

// At most `rows` jobs, those that run first. The calls are answered from memory or an index, and one
// that could bring nothing is not made.
absl::StatusOr<TopSample> TakeSample(Client& client, bool all, int rows) {
  absl::StatusOr<normlab::v1::ServerInfo> info = client.GetServerInfo();
  if (!info.ok()) {
    return info.status();
  }
  TopSample sample{.info = *std::move(info), .jobs = {}, .time = absl::Now()};
  if (all) {
    const absl::Status listed = AddJobs(client, "", rows, sample);
    return listed.ok() ? absl::StatusOr<TopSample>(std::move(sample)) : listed;
  }
  const auto room = [&] { return rows - static_cast<int>(sample.jobs.size()); };
  // A job that goes from one state to another between two calls is passed over until the next look.
  for (const auto& [state, may_be_there] : {std::pair{"RUNNING", sample.info.running_jobs() > 0},
                                            std::pair{"STARTING", sample.info.running_jobs() > 0},
                                            std::pair{"QUEUED", sample.info.queued_jobs() > 0}}) {
    const bool complete = std::string(state) == "STARTING" &&
                          static_cast<int64_t>(sample.jobs.size()) >= sample.info.running_jobs();
    if (!may_be_there || complete || room() <= 0) {
      continue;
    }
    const absl::Status listed = AddJobs(client, state, room(), sample);
    if (!listed.ok()) {
      return listed;
    }
  }
  return sample;
}

std::string SampleJson(const TopSample& sample) {
  std::string text = absl::StrCat("{\"server\":", ToJson(sample.info, false), ",\"jobs\":[");
  absl::string_view separator = "";
  for (const normlab::v1::Job& job : sample.jobs) {
    absl::StrAppend(&text, separator, ToJson(job, false));
    separator = ",";
  }
  return absl::StrCat(text, "]}\n");
}

// Prints looks one after the other: for pipes, files and programs.
int PrintSamples(const TopOptions& options,
                 const InterruptScope& interrupt,
                 Client& client,
                 CommandContext& context) {
  constexpr int kBatchRows = 100;
  constexpr int kBatchWidth = 200;
  const int rows = options.rows > 0 ? options.rows : kBatchRows;
  Output& out = context.out();
  const int iterations = std::max(options.iterations, 1);
  for (int i = 0; i < iterations; ++i) {
    if (i > 0 && !SleepUnlessStopped(absl::Seconds(options.delay_seconds), interrupt.token())) {
      break;
    }
    absl::StatusOr<TopSample> sample = TakeSample(client, options.all, rows);
    if (interrupt.signal() != 0) {
      break;
    }
    if (!sample.ok()) {
      return context.Fail(sample.status());
    }
    SortTop(TopSortOfName(options.sort), *sample);
    out.Write(context.json()
                  ? SampleJson(*sample)
                  : absl::StrCat(i == 0 ? "" : "\n", RenderTop(out, *sample, kBatchWidth)));
    out.Flush();
    if (!out.status().ok()) {
      return kExitBrokenPipe;
    }
  }
  return interrupt.signal() == 0 ? kExitSucceeded : kExitInterrupted;
}

// Takes the terminal until q, Ctrl-C or the last iteration.
int ShowSamples(const TopOptions& options,
                const InterruptScope& interrupt,
                Client& client,
                CommandContext& context) {
  Output& out = context.out();
  TopSort sort = TopSortOfName(options.sort);
  std::optional<TopSample> shown;
  absl::Status trouble;
  TerminalScreen screen(out, interrupt.token());
  for (int i = 0; options.iterations == 0 || i < options.iterations; ++i) {
    const int rows =
        options.rows > 0 ? options.rows : std::max(1, screen.Height() - kLinesBesideJobs);
    absl::StatusOr<TopSample> sample = TakeSample(client, options.all, rows);
    if (interrupt.signal() != 0) {
      break;
    }
    trouble = sample.status();
    if (sample.ok()) {
      shown = *std::move(sample);
    } else if (!shown.has_value() || !absl::IsUnavailable(trouble)) {
      break;  // a server that was there once may come back; anything else will not mend itself
    }
    const absl::Time next = absl::Now() + absl::Seconds(options.delay_seconds);
    bool refresh = false;
    while (!refresh && interrupt.signal() == 0) {
      SortTop(sort, *shown);
      const int width = out.Width() - 1;  // at the last column some terminals wrap
      const std::string hint =
          trouble.ok() ? absl::StrCat("sorted by ", TopSortNames()[static_cast<size_t>(sort)],
                                      "; q quits, space refreshes; letters sort: ",
                                      absl::StrJoin(TopSortNames(), " "))
                       : "no answer from the server; trying to get it back";
      screen.Draw(absl::StrCat(
          RenderTop(out, *shown, width),
          out.Paint(trouble.ok() ? Color::kDim : Color::kRed, Shorten(hint, width)), "\n"));
      if (!out.status().ok()) {
        return kExitBrokenPipe;
      }
      const int key = screen.WaitForKey(next - absl::Now());
      if (key == 'q' || key == 'Q') {
        return kExitSucceeded;
      }
      sort = TopSortOfKey(key, sort);
      refresh = key == ' ' || absl::Now() >= next;
    }
    if (interrupt.signal() != 0) {
      break;
    }
  }
  TerminalScreen::Restore();  // an error is printed where the user was before
  if (interrupt.signal() != 0) {
    return kExitInterrupted;
  }
  return trouble.ok() ? kExitSucceeded : context.Fail(trouble);
}

int Top(const TopOptions& options, CommandContext& context) {
  const InterruptScope interrupt(&TerminalScreen::Restore);
  ClientOptions client_options = context.MakeClientOptions(interrupt.token());
  const bool on_terminal = context.out().style().terminal && !context.json();
  if (on_terminal) {
    client_options.retry.give_up_after = absl::ZeroDuration();  // the next look is the repetition
  }
  Client client(client_options);
  return on_terminal ? ShowSamples(options, interrupt, client, context)
                     : PrintSamples(options, interrupt, client, context);
}

}  // namespace

void AddTopCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App& command =
      *app.add_subcommand("top", "Show what runs and what waits, like top, until q is pressed");
  command.add_option("-d,--delay", options->delay_seconds, "Seconds between two looks")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command
      .add_option("-n,--iterations", options->iterations,
                  "End after so many looks; default: never on a terminal, else one")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--rows", options->rows,
                  "Jobs at most; default: what the terminal shows, else 100")
      ->type_name("N")
      ->check(CLI::Range(1, kMostRows));
  command.add_option("-s,--sort", options->sort, "By what jobs are sorted")
      ->type_name("")
      ->check(CLI::IsMember(TopSortNames()))
      ->capture_default_str();
  command.add_flag("-a,--all", options->all, "The newest jobs in any state");
  command.footer(R"(
On a terminal: q quits, space looks again at once, and the first letter of a sort key sorts by it
(s: state, then speed). Elsewhere, or with --output json (a line {"server": ..., "jobs": [...]} for
each look), it prints and ends.

Examples:
  normlab top
  normlab top -n 10 -d 1 --sort speed > load.txt
  normlab top --output json | jq -r '.jobs[].name')");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Top(*options, context); };
  });
}

}  // namespace normlab::client
