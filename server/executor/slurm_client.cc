#include "server/executor/slurm_client.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"
#include "server/executor/command.h"
#include "server/executor/slurm_states.h"

namespace normlab::server {
namespace {

constexpr std::streamoff kCompletionsTail = std::streamoff{16} << 20;

// What a person wants of it: "sbatch: error: Batch job submission failed: Invalid partition" as one line,
// without the command's name before each.
std::string OneLine(absl::string_view errors) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(errors, '\n', absl::SkipWhitespace())) {
    for (const char* prefix : {"sbatch: ", "squeue: ", "scancel: ", "scontrol: ", "error: "}) {
      absl::ConsumePrefix(&line, prefix);
    }
    lines.emplace_back(absl::StripAsciiWhitespace(line));
  }
  std::string text = absl::StrJoin(lines, "; ").substr(0, 600);
  for (char& c : text) {
    // It goes into protobuf strings, which must be UTF-8.
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) {
      c = '?';
    }
  }
  return text;
}

}  // namespace

std::vector<std::string> SlurmEnvironment() {
  std::vector<std::string> environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"};
  for (const char* name : {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS"}) {
    if (const char* value = std::getenv(name); value != nullptr) {
      environment.push_back(absl::StrCat(name, "=", value));
    }
  }
  return environment;
}

SlurmClient::SlurmClient(std::string bin, absl::Duration timeout)
    : bin_(std::move(bin)), timeout_(timeout), environment_(SlurmEnvironment()) {}

absl::StatusOr<std::string> SlurmClient::Run(const std::string& command,
                                             std::vector<std::string> arguments,
                                             const std::vector<std::string>& environment) const {
  CommandOptions options;
  options.argv.push_back(bin_.empty() ? command : absl::StrCat(bin_, "/", command));
  options.argv.insert(options.argv.end(), std::make_move_iterator(arguments.begin()),
                      std::make_move_iterator(arguments.end()));
  options.environment = environment_;
  options.environment.insert(options.environment.end(), environment.begin(), environment.end());
  options.timeout = timeout_;
  const absl::StatusOr<CommandResult> result = RunCommand(options);
  if (absl::IsDeadlineExceeded(result.status())) {
    return result.status();
  }
  if (!result.ok()) {
    return absl::UnavailableError(absl::StrCat(
        result.status().message(), "; is Slurm installed, and --slurm_bin its folder?"));
  }
  if (result->code == 0) {
    return std::move(result->output);
  }
  const std::string words = OneLine(absl::StrCat(result->errors, "\n", result->output));
  const std::string text =
      absl::StrCat(command, words.empty() ? absl::StrCat(" failed with code ", result->code)
                                          : absl::StrCat(": ", words));
  if (IsLimit(words)) {
    return absl::ResourceExhaustedError(text);
  }
  return IsTransientRefusal(words) || result->code > 128 ? absl::UnavailableError(text)
                                                         : absl::InvalidArgumentError(text);
}

absl::StatusOr<SlurmClient::Config> SlurmClient::GetConfig() const {
  const absl::StatusOr<std::string> text = Run("scontrol", {"show", "config"});
  if (!text.ok()) {
    return absl::UnavailableError(text.status().message());
  }
  Config config;
  config.version = ConfigValue(*text, "SLURM_VERSION");
  if (int size = 0; absl::SimpleAtoi(ConfigValue(*text, "MaxArraySize"), &size)) {
    config.max_array_size = size;
  }
  if (ConfigValue(*text, "JobCompType") == "jobcomp/filetxt") {
    config.job_completions = ConfigValue(*text, "JobCompLoc");
  }
  return config;
}

absl::StatusOr<int64_t> SlurmClient::Submit(const SbatchJob& job,
                                            const std::vector<std::string>& environment) const {
  NORMLAB_ASSIGN_OR_RETURN(const std::string output,
                           Run("sbatch", SbatchArguments(job), environment));
  return ParseSbatch(output);
}

// --me is heeded by versions after 22.05, which print everybody's jobs.
absl::StatusOr<std::vector<SlurmRecord>> SlurmClient::Jobs(const std::string& prefix) const {
  const absl::StatusOr<std::string> output = Run("squeue", {"--json", "--me"});
  if (!output.ok()) {
    return absl::UnavailableError(output.status().message());
  }
  return ParseSqueue(*output, prefix, geteuid());
}

absl::StatusOr<SlurmRecord> SlurmClient::Job(const std::string& id) const {
  const absl::StatusOr<std::string> output = Run("scontrol", {"--oneliner", "show", "job", id});
  if (!output.ok()) {
    // The latter of an element of an array that was there.
    return absl::StrContains(output.status().message(), "Invalid job id") ||
                   absl::StrContains(output.status().message(), "not found")
               ? absl::NotFoundError(output.status().message())
               : absl::UnavailableError(output.status().message());
  }
  return ParseKeyValues(*output);
}

absl::Status SlurmClient::Signal(Cancel how, absl::Span<const std::string> ids) const {
  std::vector<std::string> arguments;
  switch (how) {
    case Cancel::kWaiting:
      arguments = {"--state=PENDING"};
      break;
    case Cancel::kAll:
      break;
    case Cancel::kCheckpoint:
      arguments = {"--signal=USR1", "--batch"};
      break;
    case Cancel::kStop:
      arguments = {"--signal=TERM", "--batch"};
      break;
    case Cancel::kStopRanks:
      arguments = {"--signal=TERM"};
      break;
    case Cancel::kKill:
      arguments = {"--signal=KILL", "--batch"};
      break;
  }
  arguments.emplace_back("--quiet");
  arguments.insert(arguments.end(), ids.begin(), ids.end());
  const absl::Status done = Run("scancel", std::move(arguments)).status();
  // Some are always gone already.
  return absl::IsInvalidArgument(done) ? absl::OkStatus() : done;
}

absl::StatusOr<SlurmRecord> FindCompletion(const std::string& path,
                                           int64_t job_id,
                                           std::optional<int64_t> task) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path));
  }
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(size - kCompletionsTail, 0));
  absl::StatusOr<SlurmRecord> last =
      absl::NotFoundError(absl::StrCat("job ", job_id, " is not in the last lines of ", path));
  const std::string plain = absl::StrCat("JobId=", job_id, " ");
  const std::string element =
      absl::StrCat("ArrayJobId=", job_id, " ArrayTaskId=", task.value_or(0), " ");
  for (std::string line; std::getline(file, line);) {
    if (task.has_value() ? absl::StrContains(line, element) : absl::StartsWith(line, plain)) {
      if (absl::StatusOr<SlurmRecord> record = ParseKeyValues(line); record.ok()) {
        last = std::move(record);
      }
    }
  }
  return last;
}

}  // namespace normlab::server
