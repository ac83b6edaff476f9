#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/job_view.h"
#include "client/cli/spec_options.h"
#include "client/cli/watch_session.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

struct SubmitOptions {
  SpecOptions spec;
  std::string request_id;
  bool wait = false;
  bool quiet = false;
};

int Submit(const SubmitOptions& options, CommandContext& context) {
  int exit_code = kExitSucceeded;
  const std::optional<SpecDocument> document = LoadSpec(options.spec, context, &exit_code);
  if (!document.has_value()) {
    return exit_code;
  }
  std::optional<InterruptScope> interrupt;
  if (options.wait) {
    interrupt.emplace();
  }
  Client client(
      context.MakeClientOptions(interrupt.has_value() ? interrupt->token() : std::stop_token()));
  const std::string request_id = options.request_id.empty() ? NewRequestId() : options.request_id;
  const absl::StatusOr<Job> job = client.CreateJob(document->spec, {.request_id = request_id});
  if (!job.ok()) {
    exit_code = FailFromServer(job.status(), *document, context);
    const bool may_be_stored =
        absl::IsDeadlineExceeded(job.status()) || absl::IsCancelled(job.status());
    if (may_be_stored && !context.json()) {
      context.err().Write(absl::StrCat(
          "The job may have been stored all the same. To submit it once and only once, repeat the "
          "command with --request-id ",
          request_id, "\n"));
    }
    return interrupt.has_value() && interrupt->signal() != 0
               ? ReportInterruption(context, interrupt->signal(), "Stopped.")
               : exit_code;
  }
  if (!options.wait) {
    if (context.json()) {
      context.PrintJson(*job);
    } else if (options.quiet) {
      context.out().Write(absl::StrCat(job->name(), "\n"));
    } else {
      context.out().Write(DescribeJob(context.out(), *job));
      context.out().Write(absl::StrCat("Watch it with: normlab watch ", job->name(), "\n"));
    }
    return kExitSucceeded;
  }
  if (!context.json()) {
    context.out().Write(options.quiet ? absl::StrCat(job->name(), "\n")
                                      : DescribeJob(context.out(), *job));
    context.out().Flush();
  }
  const WatchOutput quiet_or_records =
      options.quiet ? WatchOutput::kNothing : WatchOutput::kRecords;
  return WatchToEnd(context, client, *interrupt, job->name(), 0,
                    context.json() ? WatchOutput::kFinalJob : quiet_or_records);
}

}  // namespace

void AddSubmitCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<SubmitOptions>();
  CLI::App& command = *app.add_subcommand("submit", "Submit a job and print it");
  options->spec.AddTo(command);
  command.add_option("--request-id", options->request_id,
                     "Submitting again with the same id answers with the same job");
  command.add_flag("--wait", options->wait,
                   "Watch the job to its end; the exit code says how it ended");
  command.add_flag("-q,--quiet", options->quiet, "Print only the job's name");
  command.footer(R"(
With --output json it prints the Job; with --wait too, once it is over.

Examples:
  normlab submit spec.json
  normlab submit spec.yaml --set optimizer.sgd.learning_rate=0.5 --set epochs=3 --wait
  normlab submit --model mlp --data fashion_mnist --normalization batch --wait
  JOB=$(normlab submit -q spec.json) && normlab watch $JOB)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Submit(*options, context); };
  });
}

}  // namespace normlab::client
