#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/job_view.h"
#include "client/cli/name_argument.h"
#include "client/cli/watch_session.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

struct LogsOptions {
  std::string name;
  int64_t after = 0;
  bool follow = false;
};

int Logs(const LogsOptions& options, CommandContext& context) {
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  normlab::v1::ReadLogsRequest request;
  request.set_name(options.name);
  request.set_after_sequence(options.after);
  request.set_follow(options.follow);
  int64_t last_sequence = options.after;
  Output& out = context.out();
  const absl::Status status =
      client.ReadLogs(request, [&](const normlab::v1::ReadLogsResponse& response) {
        last_sequence = response.sequence();
        out.Write(absl::StrCat(
            context.json() ? ToJson(response, false) : FormatLogLine(out, response.line()), "\n"));
        if (options.follow) {
          out.Flush();
        }
        return out.status();
      });
  if (interrupt.signal() != 0) {
    return ReportInterruption(
        context, interrupt.signal(),
        absl::StrCat("Stopped. Read on with: normlab logs ", JobName(options.name), " --after ",
                     last_sequence, options.follow ? " --follow" : ""));
  }
  return status.ok() ? kExitSucceeded : context.Fail(status);
}

}  // namespace

void AddLogsCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<LogsOptions>();
  CLI::App& command = *app.add_subcommand("logs", "Print a job's log lines");
  AddJobArgument(command, options->name);
  command.add_flag("-f,--follow", options->follow, "Stay until the job is over");
  command.add_option("--after", options->after, "Only lines after this sequence number")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command.footer(R"(
With --output json every line is one JSON object: {"sequence":"14","line":{"severity":"INFO",...}}.

Examples:
  normlab logs jobs/ID
  normlab logs jobs/ID --follow)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Logs(*options, context); };
  });
}

}  // namespace normlab::client
