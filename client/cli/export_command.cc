#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/watch_session.h"
#include "client/export/event_file.h"
#include "client/export/export_file.h"
#include "client/export/export_run.h"
#include "client/export/point_rows.h"
#include "client/lib/download.h"
#include "client/lib/number_format.h"
#include "client/lib/resource_name.h"
#include "common/status_macros.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::Artifact;
using normlab::v1::Job;

constexpr char kFinalWeights[] = "final.safetensors";

struct ExportOptions {
  std::vector<std::string> names;
  std::string format = "csv";
  std::string place;
  std::vector<std::string> series;
};

// What an export did, for its last line.
struct ExportCount {
  int64_t jobs = 0;
  int64_t points = 0;
  int64_t files = 0;
  int64_t bytes = 0;
};

// Goes through the runs. A job that was deleted since its experiment began is passed over with a
// note; `write` gets every other one.
absl::Status ForEachJob(
    Client& client,
    const ExportPlan& plan,
    Output& err,
    const std::function<absl::Status(const ExportRun& run, const Job& job)>& write) {
  for (const ExportRun& run : plan.runs) {
    const absl::StatusOr<Job> job = client.GetJob(run.job);
    if (absl::IsNotFound(job.status()) && !run.experiment.empty()) {
      err.Write(absl::StrCat("note: ", run.job, " of ", run.experiment,
                             " was deleted; it is left out\n"));
      continue;
    }
    NORMLAB_RETURN_IF_ERROR(job.status());
    NORMLAB_RETURN_IF_ERROR(write(run, *job));
  }
  return absl::OkStatus();
}

// One table of all runs, into a file or, without one, to standard output.
absl::Status WriteTable(const ExportOptions& options,
                        Client& client,
                        const ExportPlan& plan,
                        CommandContext& context,
                        ExportCount& count) {
  Output& out = context.out();
  std::optional<ExportFile> file;
  const bool to_output = options.place.empty() || options.place == "-";
  if (!to_output) {
    NORMLAB_ASSIGN_OR_RETURN(ExportFile created, ExportFile::Create(options.place));
    file.emplace(std::move(created));
    ++count.files;
  }
  const auto write = [&](const std::string& text) -> absl::Status {
    if (file.has_value()) {
      return file->Write(text);
    }
    out.Write(text);
    return out.status();
  };
  const bool is_csv = options.format == "csv";
  if (is_csv) {
    NORMLAB_RETURN_IF_ERROR(write(PointCsvHeader(plan.axes)));
  }
  std::string rows;
  NORMLAB_RETURN_IF_ERROR(
      ForEachJob(client, plan, context.err(), [&](const ExportRun& run, const Job& job) {
        ++count.jobs;
        return ReadPoints(client, job, options.series,
                          [&](absl::Time wall_time, const MetricRecord& record) {
                            rows.clear();
                            if (is_csv) {
                              AppendPointCsv(plan.axes, run, job, wall_time, record, rows);
                            } else {
                              AppendPointJson(run, job, wall_time, record, rows);
                            }
                            count.points += static_cast<int64_t>(record.series.size());
                            return write(rows);
                          });
      }));
  if (file.has_value()) {
    NORMLAB_RETURN_IF_ERROR(file->Finish());
    count.bytes += file->bytes();
  }
  return absl::OkStatus();
}

// A folder with an event file in a folder of its own for each run, as TensorBoard wants it.
absl::Status WriteEvents(const ExportOptions& options,
                         Client& client,
                         const ExportPlan& plan,
                         CommandContext& context,
                         ExportCount& count) {
  return ForEachJob(
      client, plan, context.err(), [&](const ExportRun& run, const Job& job) -> absl::Status {
        // The name is a function of the job: exporting again replaces the file, where a second one
        // beside it would show every point twice.
        const std::string path = absl::StrCat(
            options.place, "/", RunFolder(run, job.resolved_spec().seed()), "/events.out.tfevents.",
            job.create_time().seconds(), ".", IdOf(job.name()));
        NORMLAB_ASSIGN_OR_RETURN(
            EventFile file,
            EventFile::Create(path, absl::FromUnixSeconds(job.create_time().seconds())));
        NORMLAB_RETURN_IF_ERROR(ReadPoints(
            client, job, options.series, [&](absl::Time wall_time, const MetricRecord& record) {
              count.points += static_cast<int64_t>(record.series.size());
              return file.AddScalars(wall_time, record);
            }));
        ++count.jobs;
        ++count.files;
        return file.Finish();
      });
}

// The final weights, or else the newest checkpoint's; null: there are none.
const Artifact* FindWeights(const std::vector<Artifact>& artifacts) {
  const Artifact* found = nullptr;
  for (const Artifact& artifact : artifacts) {
    const bool is_final = artifact.file_name() == kFinalWeights;
    const bool is_model = absl::EndsWith(artifact.file_name(), ".safetensors") &&
                          !absl::EndsWith(artifact.file_name(), "-optimizer.safetensors");
    if (is_final || (is_model && (found == nullptr || (found->file_name() != kFinalWeights &&
                                                       artifact.step() >= found->step())))) {
      found = &artifact;
    }
  }
  return found;
}

absl::Status WriteWeights(const ExportOptions& options,
                          Client& client,
                          const ExportPlan& plan,
                          CommandContext& context,
                          ExportCount& count) {
  const bool is_file = absl::EndsWith(options.place, ".safetensors");
  if (is_file && plan.runs.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("-o ", options.place, " is one file, but ", plan.runs.size(),
                     " jobs have weights; give a folder, or name one job"));
  }
  return ForEachJob(
      client, plan, context.err(), [&](const ExportRun& run, const Job& job) -> absl::Status {
        NORMLAB_ASSIGN_OR_RETURN(const std::vector<Artifact> artifacts,
                                 client.ListArtifacts(job.name()));
        const Artifact* const weights = FindWeights(artifacts);
        if (weights == nullptr) {
          context.err().Write(absl::StrCat("note: ", job.name(), " (", Job::State_Name(job.state()),
                                           ") has left no weights; it is left out\n"));
          return absl::OkStatus();
        }
        if (weights->file_name() != kFinalWeights) {
          context.err().Write(absl::StrCat("note: ", job.name(), " has no final weights: those of ",
                                           "the checkpoint at step ", weights->step(),
                                           " are taken\n"));
        }
        const std::string path =
            is_file ? options.place
                    : absl::StrCat(options.place, "/", RunFolder(run, job.resolved_spec().seed()),
                                   ".safetensors");
        NORMLAB_RETURN_IF_ERROR(MakeFolderOf(path));
        NORMLAB_RETURN_IF_ERROR(DownloadArtifact(client, *weights, path));
        ++count.jobs;
        ++count.files;
        count.bytes += weights->bytes();
        return absl::OkStatus();
      });
}

int Export(const ExportOptions& options, CommandContext& context) {
  const bool is_table = options.format == "csv" || options.format == "jsonl";
  if (!is_table && (options.place.empty() || options.place == "-")) {
    return context.FailUsage(
        absl::StrCat("--format ", options.format, " writes files: say where with -o FOLDER"));
  }
  if (options.format == "safetensors" && !options.series.empty()) {
    return context.FailUsage("--series chooses points, and safetensors has weights: leave it out");
  }
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  ExportCount count;
  const absl::StatusOr<ExportPlan> plan = PlanExport(client, options.names);
  absl::Status status = plan.status();
  if (status.ok()) {
    status = is_table ? WriteTable(options, client, *plan, context, count)
             : options.format == "tensorboard"
                 ? WriteEvents(options, client, *plan, context, count)
                 : WriteWeights(options, client, *plan, context, count);
  }
  if (interrupt.signal() != 0) {
    return ReportInterruption(
        context, interrupt.signal(),
        "Stopped; the file that was being written is not there. The same "
        "command starts it again, and finished ones are replaced by equal ones");
  }
  if (!status.ok()) {
    return context.Fail(status);
  }
  if (!options.place.empty() && options.place != "-") {
    context.err().Write(
        absl::StrCat(options.place, ": ", count.jobs, count.jobs == 1 ? " job, " : " jobs, ",
                     options.format == "safetensors" ? FormatBytes(static_cast<double>(count.bytes))
                                                     : absl::StrCat(count.points, " points"),
                     " in ", count.files, count.files == 1 ? " file\n" : " files\n"));
  }
  return kExitSucceeded;
}

}  // namespace

void AddExportCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<ExportOptions>();
  CLI::App& command = *app.add_subcommand(
      "export", "Write what jobs or experiments measured, or their weights, for other programs");
  command
      .add_option("NAME", options->names,
                  "jobs/ID, or experiments/ID for all its jobs; one or more, in this order")
      ->required()
      ->type_name("");
  command
      .add_option("--format", options->format,
                  "csv, jsonl (a row a point), tensorboard (event files) or safetensors (weights)")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"csv", "jsonl", "tensorboard", "safetensors"}))
      ->capture_default_str();
  command
      .add_option("-o", options->place,
                  "The file (csv, jsonl; default: standard output) or folder (tensorboard, "
                  "safetensors; of one job's weights also FILE.safetensors)")
      ->type_name("PLACE");
  command
      .add_option("--series", options->series,
                  "Series separated by commas, also with '*'; default: all")
      ->type_name("NAMES")
      ->delimiter(',')
      ->allow_extra_args(false);
  command.footer(R"(
Every point that the server has, at full resolution. Rows have the job, its experiment with cell,
axes and seed, the state, series, step, time and value. Points come in the order in which they were
measured, so an export of a job that still runs is the beginning of a later one. Files appear when
they are complete. (normlab metrics prints one job as a table with a column for each series.)

Examples:
  normlab export jobs/ID jobs/OTHER --format csv -o points.csv
  normlab export experiments/ID --format tensorboard -o runs && tensorboard --logdir runs
  normlab export experiments/ID --format jsonl --series 'test/*' | jq -s 'map(.value) | max'
  normlab export jobs/ID --format safetensors -o weights.safetensors)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Export(*options, context); };
  });
}

}  // namespace normlab::client
