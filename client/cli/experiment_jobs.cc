#include "client/cli/experiment_jobs.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "client/cli/exit_code.h"
#include "client/cli/experiment_view.h"
#include "client/lib/number_format.h"
#include "client/lib/record_decoder.h"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;
using normlab::v1::Job;
using normlab::v1::ListJobsRequest;

constexpr int kPage = 1000;
constexpr int kMostRemarks = 20;

bool MayPause(const Job& job) {
  return !IsTerminal(job.state()) && job.state() != Job::PAUSED && !job.has_pause_request_time() &&
         !job.has_cancel_request_time();
}

bool MayResume(const Job& job) {
  return job.state() == Job::PAUSED || job.has_pause_request_time();
}

struct Verb {
  std::function<bool(const Job&)> applies;
  std::function<absl::StatusOr<Job>(Client&, const std::string&)> call;
  bool oldest_first;
  std::string asked;  // "to pause"
  std::string left;   // why others were not
};

// The names of an experiment's jobs that `applies` to, the newest first; counts the others.
absl::StatusOr<std::vector<std::string>> Choose(Client& client,
                                                const std::string& experiment,
                                                const std::function<bool(const Job&)>& applies,
                                                int* others) {
  std::vector<std::string> names;
  ListJobsRequest request;
  request.set_filter(absl::StrCat("experiment=", experiment));
  request.set_page_size(kPage);
  do {
    const absl::StatusOr<normlab::v1::ListJobsResponse> page = client.ListJobs(request);
    if (!page.ok()) {
      return page.status();
    }
    for (const Job& job : page->jobs()) {
      if (applies(job)) {
        names.push_back(job.name());
      } else {
        ++*others;
      }
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return names;
}

int Act(CommandContext& context, const std::string& name, const Verb& verb) {
  Client client = context.MakeClient();
  absl::StatusOr<Experiment> experiment = client.GetExperiment(name);
  if (!experiment.ok()) {
    return context.Fail(experiment.status());
  }
  int left = 0;
  absl::StatusOr<std::vector<std::string>> jobs =
      Choose(client, experiment->name(), verb.applies, &left);
  if (!jobs.ok()) {
    return context.Fail(jobs.status());
  }
  if (verb.oldest_first) {
    std::reverse(jobs->begin(), jobs->end());
  }
  int asked = 0;
  absl::Status trouble;
  for (const std::string& job : *jobs) {
    const absl::Status status = verb.call(client, job).status();
    if (status.ok()) {
      ++asked;
    } else if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) {
      ++left;  // it went on since it was listed
    } else {
      trouble = status;
      break;
    }
  }
  if (trouble.ok()) {
    experiment = client.GetExperiment(name);
    trouble = experiment.status();
  }
  if (context.json() && trouble.ok()) {
    context.PrintJson(*experiment);
  } else if (!context.json()) {
    context.out().Write(absl::StrCat(
        "asked ", asked, asked == 1 ? " job " : " jobs ", verb.asked,
        left == 0 ? "" : absl::StrCat("; ", left, " left as they are: ", verb.left), "\n"));
  }
  if (!trouble.ok()) {
    return context.Fail(trouble);
  }
  if (!context.json()) {
    context.out().Write(absl::StrCat(experiment->name(), "  ",
                                     FormatCounts(context.out(), experiment->counts()), "\n"));
  }
  return kExitSucceeded;
}

}  // namespace

int PauseExperiment(CommandContext& context, const std::string& name) {
  return Act(context, name,
             {.applies = MayPause,
              .call = [](Client& client, const std::string& job) { return client.PauseJob(job); },
              .oldest_first = false,
              .asked = "to pause",
              .left = "ended, paused or about to be"});
}

int ResumeExperiment(CommandContext& context, const std::string& name) {
  return Act(context, name,
             {.applies = MayResume,
              .call = [](Client& client, const std::string& job) { return client.ResumeJob(job); },
              .oldest_first = true,
              .asked = "to go on",
              .left = "not paused"});
}

std::string JobRemarks(Client& client, const Experiment& experiment) {
  const bool runs = experiment.counts().running() > 0;
  if (!runs && experiment.counts().queued() == 0) {
    return "";
  }
  ListJobsRequest request;
  request.set_filter(
      absl::StrCat("experiment=", experiment.name(), " AND state=", runs ? "RUNNING" : "QUEUED"));
  request.set_page_size(runs ? kPage : 1);
  const absl::StatusOr<normlab::v1::ListJobsResponse> page = client.ListJobs(request);
  if (!page.ok()) {
    return "";
  }
  std::string text;
  int remarks = 0;
  for (const Job& job : page->jobs()) {
    if (!job.queue_reason().empty() && ++remarks <= kMostRemarks) {
      absl::StrAppend(&text, "  ", job.name(), ": ", Printable(job.queue_reason()), "\n");
    }
  }
  if (remarks > kMostRemarks) {
    absl::StrAppend(&text, "  and ", remarks - kMostRemarks, " more such jobs\n");
  }
  return text;
}

}  // namespace normlab::client
