#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/name_argument.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

int Pause(const std::vector<std::string>& names, CommandContext& context) {
  return ActOnJobs(
      context, names, [](Client& client, const std::string& name) { return client.PauseJob(name); },
      [](const Job& job) -> std::string {
        return job.state() == Job::PAUSED ? ""
                                          : "It pauses with a checkpoint after its current step.";
      });
}

}  // namespace

void AddPauseCommand(CLI::App& app, Command& selected) {
  const auto names = std::make_shared<std::vector<std::string>>();
  CLI::App& command = *app.add_subcommand(
      "pause", "Let jobs rest: a queued one at once, a running one after a checkpoint");
  AddJobArgument(command, *names);
  command.footer(R"(
A paused job holds no cores; normlab resume lets it go on exactly where it was.

Examples:
  normlab pause jobs/ID
  normlab pause jobs/ID jobs/OTHER
  normlab experiment pause experiments/ID)");
  command.callback([names, &selected] {
    selected = [names](CommandContext& context) { return Pause(*names, context); };
  });
}

}  // namespace normlab::client
