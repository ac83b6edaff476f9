#include "client/cli/command_tree.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "client/cli/commands.h"
#include "client/cli/help_formatter.h"

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

}  // namespace

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

void BuildCommandTree(CLI::App& app, GlobalOptions& options, Command& selected) {
  app.name("normlab");
  app.description(kDescription);
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
  AddExportCommand(app, selected);
  AddNormalizeCommand(app, selected);
  AddStudyCommand(app, selected);
  AddReportCommand(app, selected);
  AddTokenCommand(app, selected);
  AddTopCommand(app, selected);
  AddDoctorCommand(app, selected);
  AddCompletionCommand(app, selected);
  AddVersionCommand(app, selected);
}

}  // namespace normlab::client
