#include <cstdint>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/interrupt.h"
#include "client/cli/name_argument.h"
#include "client/cli/watch_session.h"

#include "CLI/Validators.hpp"

namespace normlab::client {

namespace {

struct WatchOptions {
  std::string name;
  int64_t after = 0;
};

int Watch(const WatchOptions& options, CommandContext& context) {
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  return WatchToEnd(context, client, interrupt, options.name, options.after, WatchOutput::kRecords);
}

}  // namespace

void AddWatchCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<WatchOptions>();
  CLI::App& command = *app.add_subcommand("watch", "Follow a job from its first record to its end");
  AddJobArgument(command, options->name);
  command
      .add_option(
          "--after", options->after,
          "Only records after this sequence number, to go on where an earlier watch stopped")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command.footer(R"(
A lost connection is opened again at the last record, so every record comes exactly once. Ctrl-C
leaves the job running and prints how to watch on.

On a terminal: a progress line, then the outcome and the loss curve. In a pipe: plain lines, at most
one line of progress a second. With --output json: every record as one line,
  {"sequence":"12","metrics":{"step":"9","elapsedUs":"8123","values":{"train/loss":0.25}}}
  {"sequence":"13","log":{"severity":"INFO","text":"..."}}
  {"sequence":"14","state":{"state":"SUCCEEDED","time":"2026-01-31T12:00:00Z"}}
with 64-bit integers as strings and non-finite values as "NaN", "Infinity" or "-Infinity". The
terminal state is the last record.

The exit code says how the job ended: 0 succeeded, 1 failed, 5 cancelled, 6 diverged; 130 after Ctrl-C.

Examples:
  normlab watch jobs/ID
  normlab watch jobs/ID --after 1200
  normlab watch jobs/ID --output json | jq -c 'select(.metrics)')");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Watch(*options, context); };
  });
}

}  // namespace normlab::client
