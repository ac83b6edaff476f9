#include "client/cli/command_line.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

#include "client/cli/commands.h"
#include "client/cli/context.h"
#include "client/cli/exit_code.h"
#include "client/cli/help_formatter.h"
#include "common/name_hint.h"

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

constexpr char kDescription[] =
    "normlab: run normalization experiments on a Normlab server and read what they measured";

constexpr char kFooter[] = R"(
Examples:
  normlab submit --model mlp --data fashion_mnist --normalization batch --wait
  normlab submit spec.yaml --set epochs=5
  normlab watch jobs/ID
  normlab metrics jobs/ID --series train/loss,test/accuracy > metrics.csv
  normlab COMMAND --help

Exit codes:
  0  succeeded            3  server unreachable      5  the job was cancelled
  1  the job failed       4  refused, not found,     6  the job diverged
  2  wrong usage             or an invalid spec      130 interrupted (Ctrl-C)
For submit --wait and watch the exit code says how the job ended.)";

const CLI::Validator& DurationCheck() {
  static const CLI::Validator& check = *new CLI::Validator(
      [](std::string& text) {
        absl::Duration duration;
        return absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()
                   ? std::string()
                   : absl::StrCat(text, " is not a duration; write for example 30s or 5m");
      },
      "DURATION");
  return check;
}

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  app.add_option("--server", options.server, "HOST:PORT of the server")
      ->type_name("")
      ->envname("NORMLAB_SERVER")
      ->capture_default_str();
  app.add_flag("--tls", options.tls.enabled,
               "Encrypt the connection; trust the authorities that the system trusts")
      ->envname("NORMLAB_TLS");
  app.add_option("--tls-ca", options.tls.ca,
                 "Encrypt the connection; trust the authorities of this PEM file")
      ->type_name("FILE")
      ->envname("NORMLAB_TLS_CA");
  app.add_option("--tls-cert", options.tls.certificate,
                 "This client's certificate, for servers that ask for one")
      ->type_name("FILE")
      ->envname("NORMLAB_TLS_CERT");
  app.add_option("--tls-key", options.tls.key, "The key of --tls-cert")
      ->type_name("FILE")
      ->envname("NORMLAB_TLS_KEY");
  app.add_option("--token-file", options.token_file,
                 "File with the token that says who you are (or the variable NORMLAB_TOKEN)")
      ->type_name("FILE")
      ->envname("NORMLAB_TOKEN_FILE");
  app.add_option(
         "--token", options.token,
         "The token itself; other users of this machine can see it in the list of processes")
      ->type_name("");
  app.add_option("--output", options.output,
                 "text, or json: protobuf JSON, also for errors (on standard error)")
      ->type_name("")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_flag("--no-color", options.no_color, "No colours; so does the variable NO_COLOR");
  app.add_option("--timeout", options.timeout, "How long to wait for an answer")
      ->check(DurationCheck())
      ->capture_default_str();
  app.add_option(
         "--retry-for", options.retry_for,
         "How long to go on trying when the server is away; default 3s, and 10m for a watch "
         "that was connected")
      ->check(DurationCheck());
}

// Whether the arguments ask for JSON, looked up before they are parsed: errors of parsing too shall
// be JSON then.
bool AsksForJson(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--output=json" ||
        (arguments[i] == "--output" && i + 1 < arguments.size() && arguments[i + 1] == "json")) {
      return true;
    }
  }
  return false;
}

// What to say when the arguments of a failed parse name a command that does not exist; else empty.
std::string UnknownCommand(const CLI::App& app) {
  if (!app.get_subcommands().empty()) {
    return "";
  }
  const std::vector<std::string> remaining = app.remaining();
  const auto word = std::find_if(remaining.begin(), remaining.end(), [](const std::string& text) {
    return !absl::StartsWith(text, "-");
  });
  if (word == remaining.end()) {
    return "";
  }
  std::vector<std::string> names;
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* /*any*/) { return true; })) {
    names.push_back(command->get_name());
  }
  return absl::StrCat("unknown command \"", Printable(*word), "\"; ",
                      common::NameHint(*word, names));
}

// Ends the output and turns what went wrong with it into the exit code.
int Finish(int exit_code, Output& out, Output& err) {
  out.Flush();
  if (absl::IsAborted(out.status())) {
    return kExitBrokenPipe;
  }
  if (!out.status().ok()) {
    err.Write(absl::StrCat("error: ", std::string(out.status().message()), "\n"));
    exit_code = kExitRefused;
  }
  err.Flush();
  return exit_code;
}

int Run(const std::vector<std::string>& arguments,
        std::istream& in,
        Output& out,
        Output& err,
        GlobalOptions& options) {
  Command selected;
  CLI::App app(kDescription, "normlab");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.fallthrough();  // global options may stand behind the command too
  app.footer(kFooter);
  app.set_version_flag("--version", absl::StrCat("normlab ", NORMLAB_VERSION),
                       "Print the version of this program and exit");
  AddGlobalOptions(app, options);
  AddSubmitCommand(app, selected);
  AddValidateCommand(app, selected);
  AddWatchCommand(app, selected);
  AddLogsCommand(app, selected);
  AddListCommand(app, selected);
  AddGetCommand(app, selected);
  AddCancelCommand(app, selected);
  AddPauseCommand(app, selected);
  AddResumeCommand(app, selected);
  AddUpdateCommand(app, selected);
  AddDeleteCommand(app, selected);
  AddMetricsCommand(app, selected);
  AddCompareCommand(app, selected);
  AddSweepCommand(app, selected);
  AddExperimentCommand(app, selected);
  AddArtifactsCommand(app, selected);
  AddNormalizeCommand(app, selected);
  AddStudyCommand(app, selected);
  AddReportCommand(app, selected);
  AddTokenCommand(app, selected);
  AddVersionCommand(app, selected);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants it
    app.parse(reversed);
  } catch (const CLI::Success& help) {
    std::ostringstream text;
    app.exit(help, text, text);
    out.Write(text.str());
    return kExitSucceeded;
  } catch (const CLI::ParseError& error) {
    options.output = AsksForJson(arguments) ? "json" : "text";
    CommandContext context(in, out, err, options);
    const std::string unknown = UnknownCommand(app);
    return context.FailUsage(unknown.empty() ? absl::StrCat(error.what(), "; see normlab --help")
                                             : unknown);
  }
  CommandContext context(in, out, err, options);
  if (const absl::Status status = context.Prepare(); !status.ok()) {
    return context.FailUsage(std::string(status.message()));
  }
  return selected(context);
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments,
                   std::istream& in,
                   std::FILE* out,
                   std::FILE* err) {
  const bool no_color =
      std::find(arguments.begin(), arguments.end(), "--no-color") != arguments.end();
  Output out_stream(out, DetectStyle(out, no_color));
  Output err_stream(err, DetectStyle(err, no_color));
  GlobalOptions options;
  int exit_code = kExitRefused;
  try {
    exit_code = Run(arguments, in, out_stream, err_stream, options);
  } catch (const std::exception& error) {  // of a library, at its outermost seam
    err_stream.Write(
        absl::StrCat("error: ", error.what(), "; this is a bug of normlab, please report it\n"));
  }
  return Finish(exit_code, out_stream, err_stream);
}

}  // namespace normlab::client
