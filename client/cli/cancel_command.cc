#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/name_argument.h"
#include "client/lib/record_decoder.h"

namespace normlab::client {
namespace {

int Cancel(const std::vector<std::string>& names, CommandContext& context) {
  return ActOnJobs(
      context, names,
      [](Client& client, const std::string& name) { return client.CancelJob(name); },
      [](const normlab::v1::Job& job) -> std::string {
        return IsTerminal(job.state()) ? "" : "It ends after its current step.";
      });
}

}  // namespace

void AddCancelCommand(CLI::App& app, Command& selected) {
  const auto names = std::make_shared<std::vector<std::string>>();
  CLI::App& command = *app.add_subcommand(
      "cancel", "End jobs: a queued one at once, a running one after its current step");
  AddJobArgument(command, *names);
  command.footer(R"(
Examples:
  normlab cancel jobs/ID
  normlab cancel jobs/ID jobs/OTHER
  normlab experiment cancel experiments/ID)");
  command.callback([names, &selected] {
    selected = [names](CommandContext& context) { return Cancel(*names, context); };
  });
}

}  // namespace normlab::client
