#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/name_argument.h"
#include "client/lib/client.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

struct DeleteOptions {
  std::vector<std::string> names;
  bool force = false;
  bool allow_missing = false;
};

int Delete(const DeleteOptions& options, CommandContext& context) {
  Client client = context.MakeClient();
  return ActOnEach(context, options.names, [&](const std::string& name) {
    const absl::Status deleted = client.DeleteJob(name, options.force, options.allow_missing);
    if (deleted.ok()) {
      context.out().Write(context.json()
                              ? absl::StrCat("{\"name\":", FormatJsonString(JobName(name)), "}\n")
                              : absl::StrCat("deleted ", Printable(JobName(name)), "\n"));
    }
    return deleted;
  });
}

}  // namespace

void AddDeleteCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<DeleteOptions>();
  CLI::App& command = *app.add_subcommand(
      "delete", "Remove jobs that have ended or are paused, with their records and files");
  AddJobArgument(command, options->names);
  command.add_flag("--force", options->force, "Cancel first what waits or runs");
  command.add_flag("--allow-missing", options->allow_missing,
                   "No error for a job that is not there");
  command.footer(R"(
There is no way back. A job that cannot be deleted does not keep the others. With --output json it
prints the name of every deleted job, one a line.

Examples:
  normlab delete jobs/ID
  normlab delete --force jobs/ID jobs/OTHER)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Delete(*options, context); };
  });
}

}  // namespace normlab::client
