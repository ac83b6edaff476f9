#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

int Version(CommandContext& context) {
  ClientOptions options = context.MakeClientOptions({});
  options.retry.give_up_after = absl::ZeroDuration();  // nice to know, not worth waiting for
  options.timeout = std::min(options.timeout, absl::Seconds(2));
  Client client(options);
  const absl::StatusOr<normlab::v1::ServerInfo> info = client.GetServerInfo();
  if (context.json()) {
    context.out().Write(absl::StrCat(
        "{\"client\":{\"version\":", FormatJsonString(NORMLAB_VERSION), "}",
        info.ok() ? absl::StrCat(",\"server\":", ToJson(*info, false)) : std::string(), "}\n"));
    return kExitSucceeded;
  }
  context.out().Write(absl::StrCat("normlab ", NORMLAB_VERSION, "\n"));
  if (!info.ok()) {
    // No server is an answer; a server that does not tell is not.
    if (absl::IsUnavailable(info.status()) || absl::IsDeadlineExceeded(info.status())) {
      context.out().Write(absl::StrCat("no server at ", Printable(options.server), "\n"));
      return kExitSucceeded;
    }
    return context.Fail(info.status());
  }
  context.out().Write(absl::StrCat(
      "normlabd ", Printable(info->version()), " at ", Printable(options.server), ": ",
      info->cores(), " cores, ", FormatBytes(static_cast<double>(info->memory_bytes())),
      ", oneDNN ", Printable(info->onednn_version()), " on ", Printable(info->isa()), "\n"));
  return kExitSucceeded;
}

}  // namespace

void AddVersionCommand(CLI::App& app, Command& selected) {
  CLI::App& command =
      *app.add_subcommand("version", "Print the versions of this program and of the server");
  command.callback([&selected] { selected = Version; });
}

}  // namespace normlab::client
