#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/name_argument.h"
#include "client/cli/watch_session.h"
#include "client/lib/download.h"
#include "client/lib/resource_name.h"

namespace normlab::client {
namespace {

using normlab::v1::Artifact;

struct ArtifactsOptions {
  std::string job;
  std::string download;
  std::string file;
};

std::string Table(const std::vector<Artifact>& artifacts) {
  std::string text = absl::StrFormat("%-4s %-40s %14s %10s %8s  %s\n", "ID", "FILE", "BYTES",
                                     "STEP", "ATTEMPT", "SHA-256");
  for (const Artifact& artifact : artifacts) {
    absl::StrAppendFormat(&text, "%-4s %-40s %14d %10d %8d  %s\n", IdOf(artifact.name()),
                          Printable(artifact.file_name()), artifact.bytes(), artifact.step(),
                          artifact.attempt(), Printable(artifact.sha256()));
  }
  return text;
}

// By number, name or file name; of several with the same file name the newest. Null: none.
const Artifact* Find(const std::vector<Artifact>& artifacts, const std::string& wanted) {
  const auto found =
      std::find_if(artifacts.rbegin(), artifacts.rend(), [&](const Artifact& artifact) {
        return wanted == IdOf(artifact.name()) || wanted == artifact.name() ||
               wanted == artifact.file_name();
      });
  return found == artifacts.rend() ? nullptr : &*found;
}

// What a server names a file must not lead out of the folder.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos;
}

int Download(const ArtifactsOptions& options,
             Client& client,
             const std::vector<Artifact>& artifacts,
             CommandContext& context,
             const InterruptScope& interrupt) {
  const Artifact* const artifact = Find(artifacts, options.download);
  if (artifact == nullptr) {
    return context.Fail(absl::NotFoundError(
        absl::StrCat(JobName(options.job), " has no file ", Printable(options.download),
                     "; see what it has with: normlab artifacts ", JobName(options.job))));
  }
  std::string file = options.file;
  if (file.empty()) {
    if (!IsPlainName(artifact->file_name())) {
      return context.FailUsage("the server gives no name to save this file under: add -o FILE");
    }
    file = artifact->file_name();
  }
  const absl::Status status = DownloadArtifact(client, *artifact, file);
  if (interrupt.signal() != 0) {
    return ReportInterruption(context, interrupt.signal(),
                              absl::StrCat("Stopped; the same command goes on from what is in ",
                                           Printable(file), ".part"));
  }
  if (!status.ok()) {
    return context.Fail(status);
  }
  if (context.json()) {
    context.PrintJson(*artifact);
  } else {
    context.out().Write(absl::StrCat(Printable(file), ": ", artifact->bytes(),
                                     " bytes, SHA-256 as the job wrote it\n"));
  }
  return kExitSucceeded;
}

int Artifacts(const ArtifactsOptions& options, CommandContext& context) {
  if (options.download.empty() && !options.file.empty()) {
    return context.FailUsage("-o says where to download to: say what with --download ID");
  }
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  const absl::StatusOr<std::vector<Artifact>> artifacts = client.ListArtifacts(options.job);
  if (!artifacts.ok()) {
    return context.Fail(artifacts.status());
  }
  if (!options.download.empty()) {
    return Download(options, client, *artifacts, context, interrupt);
  }
  if (context.json()) {
    normlab::v1::ListArtifactsResponse response;
    response.mutable_artifacts()->Add(artifacts->begin(), artifacts->end());
    context.PrintJson(response);
  } else if (artifacts->empty()) {
    context.out().Write(absl::StrCat(JobName(options.job), " has left no files so far\n"));
  } else {
    context.out().Write(Table(*artifacts));
  }
  return kExitSucceeded;
}

}  // namespace

void AddArtifactsCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<ArtifactsOptions>();
  CLI::App& command =
      *app.add_subcommand("artifacts", "List a job's checkpoints and final weights, or fetch one");
  AddJobArgument(command, options->job);
  command.add_option("--download", options->download, "Fetch this one: its ID or its FILE name")
      ->type_name("ID");
  command.add_option("-o", options->file, "Where to; default: the file's name, here")
      ->type_name("FILE");
  command.footer(R"(
A download that was interrupted goes on where it stopped. The file appears when all of it is there
and its SHA-256 is right.

Examples:
  normlab artifacts jobs/ID
  normlab artifacts jobs/ID --download final.safetensors -o weights.safetensors)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Artifacts(*options, context); };
  });
}

}  // namespace normlab::client
