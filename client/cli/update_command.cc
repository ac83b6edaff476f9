#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/cli/name_argument.h"

namespace normlab::client {
namespace {

constexpr char kLabel[] = "labels.";

struct UpdateOptions {
  std::string name;
  std::vector<std::string> set;    // FIELD=VALUE
  std::vector<std::string> unset;  // FIELD
};

// What is wrong with the options, or nothing, with `request` filled in.
std::string FillRequest(const UpdateOptions& options, normlab::v1::UpdateJobRequest& request) {
  normlab::v1::Job& job = *request.mutable_job();
  job.set_name(options.name);
  for (const std::string& text : options.set) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    const std::string& field = parts.first;
    if (!absl::StrContains(text, '=')) {
      return absl::StrCat("--set ", Printable(text), " has no \"=\"; write --set FIELD=VALUE");
    }
    if (field == "display_name") {
      job.set_display_name(parts.second);
    } else if (field == "priority") {
      int32_t priority = 0;
      if (!absl::SimpleAtoi(parts.second, &priority)) {
        return absl::StrCat("--set ", Printable(text), " is no whole number");
      }
      job.set_priority(priority);
    } else if (absl::StartsWith(field, kLabel)) {
      (*job.mutable_labels())[field.substr(sizeof(kLabel) - 1)] = parts.second;
    } else {
      return absl::StrCat("--set ", Printable(text),
                          " cannot be changed; only display_name, priority and labels.KEY can");
    }
    request.mutable_update_mask()->add_paths(field);
  }
  for (const std::string& field : options.unset) {
    if (field != "display_name" && field != "labels" && !absl::StartsWith(field, kLabel)) {
      return absl::StrCat("--unset ", Printable(field),
                          " is none of display_name, labels and labels.KEY");
    }
    request.mutable_update_mask()->add_paths(field);
  }
  if (request.update_mask().paths().empty()) {
    return "nothing to change; give --set FIELD=VALUE or --unset FIELD";
  }
  return "";
}

int Update(const UpdateOptions& options, CommandContext& context) {
  normlab::v1::UpdateJobRequest request;
  if (const std::string wrong = FillRequest(options, request); !wrong.empty()) {
    return context.FailUsage(wrong);
  }
  Client client = context.MakeClient();
  const absl::StatusOr<normlab::v1::Job> job = client.UpdateJob(std::move(request));
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  if (context.json()) {
    context.PrintJson(*job);
  } else {
    context.out().Write(DescribeJob(context.out(), *job));
  }
  return kExitSucceeded;
}

}  // namespace

void AddUpdateCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<UpdateOptions>();
  CLI::App& command =
      *app.add_subcommand("update", "Change a job's display name, labels or priority");
  AddJobArgument(command, options->name);
  command.add_option("--set", options->set, "FIELD=VALUE: display_name, priority or labels.KEY")
      ->type_name("")
      ->allow_extra_args(false);
  command
      .add_option("--unset", options->unset, "display_name, labels.KEY, or labels for all of them")
      ->type_name("")
      ->allow_extra_args(false);
  command.footer(R"(
Priority counts while the job waits.

Examples:
  normlab update jobs/ID --set labels.study=explosion --set priority=5
  normlab update jobs/ID --unset labels.study)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Update(*options, context); };
  });
}

}  // namespace normlab::client
