#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/lib/record_decoder.h"

namespace normlab::client {
namespace {

int Cancel(const std::string& name, CommandContext& context) {
  Client client = context.MakeClient();
  const absl::StatusOr<normlab::v1::Job> job = client.CancelJob(name);
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  if (context.json()) {
    context.PrintJson(*job);
    return kExitSucceeded;
  }
  context.out().Write(DescribeJob(context.out(), *job));
  if (!IsTerminal(job->state())) {
    context.out().Write("It ends after its current step.\n");
  }
  return kExitSucceeded;
}

}  // namespace

void AddCancelCommand(CLI::App& app, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command = *app.add_subcommand(
      "cancel", "End a job: a queued one at once, a running one after its current step");
  command.add_option("JOB", *name, "jobs/ID or ID")->required()->type_name("");
  command.footer(R"(
Examples:
  normlab cancel jobs/ID)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) { return Cancel(*name, context); };
  });
}

}  // namespace normlab::client
