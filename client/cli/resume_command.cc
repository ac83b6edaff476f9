#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"

namespace normlab::client {
namespace {

int Resume(const std::string& name, CommandContext& context) {
  Client client = context.MakeClient();
  const absl::StatusOr<normlab::v1::Job> job = client.ResumeJob(name);
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  if (context.json()) {
    context.PrintJson(*job);
  } else {
    context.out().Write(DescribeJob(context.out(), *job));
  }
  return kExitSucceeded;
}

}  // namespace

void AddResumeCommand(CLI::App& app, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command = *app.add_subcommand(
      "resume", "Put a paused job back into the queue, or take back a pause in time");
  command.add_option("JOB", *name, "jobs/ID or ID")->required()->type_name("");
  command.footer(R"(
Examples:
  normlab resume jobs/ID)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) { return Resume(*name, context); };
  });
}

}  // namespace normlab::client
