#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/cli/name_argument.h"

namespace normlab::client {
namespace {

int Get(const std::string& name, CommandContext& context) {
  Client client = context.MakeClient();
  const absl::StatusOr<normlab::v1::Job> job = client.GetJob(name);
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

void AddGetCommand(CLI::App& app, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command = *app.add_subcommand("get", "Print one job: state, progress, result");
  AddJobArgument(command, *name);
  command.footer(R"(
Examples:
  normlab get jobs/ID
  normlab get jobs/ID --output json | jq .result.finalMetrics)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) { return Get(*name, context); };
  });
}

}  // namespace normlab::client
