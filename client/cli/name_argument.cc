#include "client/cli/name_argument.h"

#include <algorithm>
#include <array>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

// What there is for a job and for an experiment alike.
constexpr std::array<absl::string_view, 6> kSharedVerbs = {"get",    "watch",  "pause",
                                                           "resume", "cancel", "delete"};

constexpr char kJob[] = "jobs/ID or ID";
constexpr char kJobs[] = "jobs/ID or ID; several in this order";
constexpr char kExperiment[] = "experiments/ID or ID";
constexpr char kExperiments[] = "experiments/ID or ID; several in this order";

// CLI11's idea of a check: what is wrong with the value, or nothing.
std::function<std::string(const std::string&)> RefuseExperiments(const std::string& verb) {
  return [verb](const std::string& value) -> std::string {
    const std::string name = Printable(value);
    if (!absl::StartsWith(value, "experiments/")) {
      return "";
    }
    return absl::c_linear_search(kSharedVerbs, verb)
               ? absl::StrCat(name, " is an experiment: normlab experiment ", verb, " ", name)
               : absl::StrCat(
                     name, " is an experiment; its jobs: normlab list --filter experiment=", name);
  };
}

std::function<std::string(const std::string&)> RefuseJobs(const std::string& verb) {
  return [verb](const std::string& value) -> std::string {
    const std::string name = Printable(value);
    return absl::StartsWith(value, "jobs/")
               ? absl::StrCat(name, " is a job: normlab ",
                              absl::c_linear_search(kSharedVerbs, verb) ? verb : "get", " ", name)
               : "";
  };
}

template <typename Names>
void AddNames(CLI::App& command,
              const std::string& place,
              Names& names,
              const std::string& description,
              const std::function<std::string(const std::string&)>& check) {
  command.add_option(place, names, description)->required()->type_name("")->check(check);
}

// Of two exit codes the one that says more trouble.
int Worse(int a, int b) {
  const auto rank = [](int code) {
    return code == kExitSucceeded ? 0 : code == kExitRefused ? 1 : code == kExitUnreachable ? 2 : 3;
  };
  return rank(b) > rank(a) ? b : a;
}

}  // namespace

void AddJobArgument(CLI::App& command, std::string& name) {
  AddNames(command, "JOB", name, kJob, RefuseExperiments(command.get_name()));
}

void AddJobArgument(CLI::App& command, std::vector<std::string>& names) {
  AddNames(command, "JOB", names, kJobs, RefuseExperiments(command.get_name()));
}

void AddExperimentArgument(CLI::App& command, std::string& name) {
  AddNames(command, "NAME", name, kExperiment, RefuseJobs(command.get_name()));
}

void AddExperimentArgument(CLI::App& command, std::vector<std::string>& names) {
  AddNames(command, "NAME", names, kExperiments, RefuseJobs(command.get_name()));
}

int ActOnEach(CommandContext& context,
              const std::vector<std::string>& names,
              const std::function<absl::Status(const std::string& name)>& act) {
  int worst = kExitSucceeded;
  for (size_t i = 0; i < names.size(); ++i) {
    const absl::Status status = act(names[i]);
    if (!context.out().status().ok()) {
      return kExitBrokenPipe;
    }
    if (status.ok()) {
      continue;
    }
    worst = Worse(worst, context.Fail(status));
    const size_t left = names.size() - i - 1;
    if (absl::IsUnavailable(status) && left > 0) {
      if (!context.json()) {
        context.err().Write(absl::StrCat("not tried: ", left, left == 1 ? " more" : " others",
                                         ", from ", Printable(names[i + 1]), " on\n"));
      }
      break;
    }
  }
  return worst;
}

int ActOnJobs(
    CommandContext& context,
    const std::vector<std::string>& names,
    const std::function<absl::StatusOr<Job>(Client& client, const std::string& name)>& act,
    const std::function<std::string(const Job& job)>& note) {
  Client client = context.MakeClient();
  Output& out = context.out();
  return ActOnEach(context, names, [&](const std::string& name) {
    const absl::StatusOr<Job> job = act(client, name);
    if (!job.ok()) {
      return job.status();
    }
    const std::string remark = note(*job);
    if (context.json()) {
      out.Write(names.size() == 1 ? ToJson(*job, true) : absl::StrCat(ToJson(*job, false), "\n"));
    } else if (names.size() == 1) {
      out.Write(absl::StrCat(DescribeJob(out, *job), remark, remark.empty() ? "" : "\n"));
    } else {
      out.Write(absl::StrCat(job->name(), "  ", PaintState(out, job->state()),
                             remark.empty() ? "" : "  ", remark, "\n"));
    }
    return absl::OkStatus();
  });
}

}  // namespace normlab::client
