#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/name_argument.h"

namespace normlab::client {
namespace {

int Resume(const std::vector<std::string>& names, CommandContext& context) {
  return ActOnJobs(
      context, names,
      [](Client& client, const std::string& name) { return client.ResumeJob(name); },
      [](const normlab::v1::Job& /*job*/) { return std::string(); });
}

}  // namespace

void AddResumeCommand(CLI::App& app, Command& selected) {
  const auto names = std::make_shared<std::vector<std::string>>();
  CLI::App& command = *app.add_subcommand(
      "resume", "Put paused jobs back into the queue, or take back a pause in time");
  AddJobArgument(command, *names);
  command.footer(R"(
Examples:
  normlab resume jobs/ID
  normlab experiment resume experiments/ID)");
  command.callback([names, &selected] {
    selected = [names](CommandContext& context) { return Resume(*names, context); };
  });
}

}  // namespace normlab::client
