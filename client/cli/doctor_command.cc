#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/cli/commands.h"
#include "client/cli/doctor_checks.h"
#include "client/cli/exit_code.h"
#include "client/lib/number_format.h"
#include "client/lib/rpc_error.h"
#include "common/atomic_file.h"

namespace normlab::client {
namespace {

constexpr size_t kMaxCertificateBytes = size_t{1} << 20;

// The data sets that come from files and have a place of their own.
std::vector<DataSetAnswer> LookForDataSets(Client& client) {
  std::vector<DataSetAnswer> answers;
  for (const char* name : {"fashion_mnist", "mnist", "cifar10", "cifar100"}) {
    normlab::v1::JobSpec spec;
    spec.mutable_model()->mutable_mlp();
    normlab::v1::Data& data = *spec.mutable_data();
    const google::protobuf::FieldDescriptor* field = data.GetDescriptor()->FindFieldByName(name);
    data.GetReflection()->MutableMessage(&data, field);
    spec.set_steps(1);
    const absl::StatusOr<normlab::v1::Job> job =
        client.CreateJob(spec, {.request_id = "", .validate_only = true});
    answers.push_back({.name = name,
                       .status = job.status(),
                       .description = job.ok() ? absl::StrCat(job->data().train_examples(), " + ",
                                                              job->data().test_examples())
                                               : std::string()});
    if (absl::IsPermissionDenied(job.status())) {
      break;  // so it will be for the others
    }
  }
  return answers;
}

// A token that others can read, in a file or in the list of processes.
void CheckTokenPlace(const GlobalOptions& options, std::vector<Finding>& findings) {
  if (!options.token.empty()) {
    findings.push_back({.check = "token",
                        .level = Level::kWarning,
                        .message = "the token stands on the command line, where every user of this "
                                   "machine can read it",
                        .advice = "put it into a file: --token-file FILE, or NORMLAB_TOKEN_FILE"});
    return;
  }
  struct stat status {};
  if (options.token_file.empty() || stat(options.token_file.c_str(), &status) != 0) {
    return;
  }
  const bool open_to_others = (status.st_mode & (S_IRWXG | S_IRWXO)) != 0;
  findings.push_back(
      {.check = "token",
       .level = open_to_others ? Level::kWarning : Level::kOk,
       .message = absl::StrCat(Printable(options.token_file),
                               open_to_others ? " can be read by others" : " is yours alone"),
       .advice = open_to_others ? absl::StrCat("chmod 600 ", Printable(options.token_file)) : ""});
}

void CheckEncryption(const GlobalOptions& options,
                     const ServerProbe& probe,
                     std::vector<Finding>& findings) {
  if (!probe.certificate_pem.empty()) {
    findings.push_back(CheckCertificate("of the server", probe.certificate_pem, absl::Now()));
  } else if (!IsLocalServer(options.server)) {
    findings.push_back({.check = "encryption",
                        .level = Level::kWarning,
                        .message = "calls go to another machine in plaintext",
                        .advice = "run the server with --tls_cert and --tls_key, and call it with "
                                  "--tls-ca (docs/security.md)"});
  } else {
    findings.push_back(
        {.check = "encryption", .message = "none, and none needed: the server is this machine"});
  }
  if (!options.tls.certificate.empty()) {
    const absl::StatusOr<std::string> pem =
        common::ReadFile(options.tls.certificate, kMaxCertificateBytes);
    findings.push_back(CheckCertificate("of this client", pem.ok() ? *pem : "", absl::Now()));
  }
}

void Print(const std::string& server,
           const std::vector<Finding>& findings,
           CommandContext& context) {
  Output& out = context.out();
  const Level worst = Worst(findings);
  if (context.json()) {
    std::string text = absl::StrCat("{\"server\":", FormatJsonString(server), ",\"result\":\"",
                                    LevelName(worst), "\",\"checks\":[");
    absl::string_view separator = "\n";
    for (const Finding& finding : findings) {
      absl::StrAppend(&text, separator, "{\"check\":", FormatJsonString(finding.check),
                      ",\"level\":\"", LevelName(finding.level),
                      "\",\"message\":", FormatJsonString(finding.message));
      if (!finding.advice.empty()) {
        absl::StrAppend(&text, ",\"advice\":", FormatJsonString(finding.advice));
      }
      absl::StrAppend(&text, "}");
      separator = ",\n";
    }
    out.Write(absl::StrCat(text, "\n]}\n"));
    return;
  }
  constexpr int kLevelWidth = 9;
  constexpr int kCheckWidth = 13;
  int warnings = 0;
  int problems = 0;
  for (const Finding& finding : findings) {
    warnings += finding.level == Level::kWarning ? 1 : 0;
    problems += finding.level == Level::kProblem ? 1 : 0;
    const Color color = finding.level == Level::kOk        ? Color::kGreen
                        : finding.level == Level::kWarning ? Color::kYellow
                                                           : Color::kRed;
    const std::string name = finding.level == Level::kOk        ? "ok"
                             : finding.level == Level::kWarning ? "warning"
                                                                : "problem";
    out.Write(absl::StrCat(out.Paint(color, PadRight(name, kLevelWidth)),
                           PadRight(finding.check, kCheckWidth), finding.message, "\n"));
    if (!finding.advice.empty()) {
      out.Write(
          absl::StrCat(std::string(kLevelWidth + kCheckWidth, ' '), "-> ", finding.advice, "\n"));
    }
  }
  out.Write(worst == Level::kOk
                ? "All is well.\n"
                : absl::StrCat(problems, problems == 1 ? " problem, " : " problems, ", warnings,
                               warnings == 1 ? " warning.\n" : " warnings.\n"));
}

int Doctor(CommandContext& context) {
  const GlobalOptions& options = context.options();
  Client client = context.MakeClient();
  const absl::StatusOr<ServerProbe> probe = client.Probe();
  std::vector<Finding> findings;
  if (!probe.ok()) {
    findings.push_back({.check = "connection",
                        .level = Level::kProblem,
                        .message = Printable(DescribeError(probe.status())),
                        .advice = "nothing else can be checked before that is mended"});
    Print(options.server, findings, context);
    return ExitCodeForStatus(probe.status());
  }
  findings.push_back(CheckConnection(*probe, options.server));
  CheckEncryption(options, *probe, findings);
  CheckTokenPlace(options, findings);
  findings.push_back(CheckCaller(*probe));
  findings.push_back(CheckHealth(*probe));
  findings.push_back(CheckVersion(*probe, NORMLAB_VERSION));
  findings.push_back(CheckClock(*probe));
  for (Finding& finding : CheckDisks(*probe)) {
    findings.push_back(std::move(finding));
  }
  findings.push_back(CheckCapacity(*probe));
  if (probe->info.queued_jobs() > 0) {
    normlab::v1::ListJobsRequest waiting;
    waiting.set_filter("state=QUEUED");
    waiting.set_page_size(1);
    findings.push_back(CheckStarts(client.ListJobs(waiting)));
  }
  findings.push_back(CheckEngine(*probe));
  findings.push_back(CheckWorker(client.Normalize(WorkerProbeRequest())));
  findings.push_back(CheckDataSets(LookForDataSets(client), probe->info));
  Print(options.server, findings, context);
  return Worst(findings) == Level::kProblem ? kExitRefused : kExitSucceeded;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, Command& selected) {
  CLI::App& command = *app.add_subcommand(
      "doctor", "Check the server and the way to it, and say what to do about what is wrong");
  command.footer(R"(
Looks at the connection, certificates, token, health, versions, clock, disks, cores and memory; has
the engine compute four numbers in a process of its own; and looks for the data sets that come from
files. It stores no job.

The exit code: 0 when nothing is a problem (warnings are none), 3 when there is no server, 4 else.

Examples:
  normlab doctor
  normlab doctor --server gpu:7600 --tls-ca ca.pem --output json | jq -r .result)");
  command.callback([&selected] { selected = Doctor; });
}

}  // namespace normlab::client
