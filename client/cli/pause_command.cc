#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"

namespace normlab::client {
namespace {

int Pause(const std::string& name, CommandContext& context) {
  Client client = context.MakeClient();
  const absl::StatusOr<normlab::v1::Job> job = client.PauseJob(name);
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  if (context.json()) {
    context.PrintJson(*job);
    return kExitSucceeded;
  }
  context.out().Write(DescribeJob(context.out(), *job));
  if (job->state() != normlab::v1::Job::PAUSED) {
    context.out().Write("It pauses with a checkpoint after its current step.\n");
  }
  return kExitSucceeded;
}

}  // namespace

void AddPauseCommand(CLI::App& app, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command = *app.add_subcommand(
      "pause", "Let a job rest: a queued one at once, a running one after a checkpoint");
  command.add_option("JOB", *name, "jobs/ID or ID")->required()->type_name("");
  command.footer(R"(
A paused job holds no cores; normlab resume lets it go on exactly where it was.

Examples:
  normlab pause jobs/ID)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) { return Pause(*name, context); };
  });
}

}  // namespace normlab::client
