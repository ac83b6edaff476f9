#include "client/cli/completion_answer.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "client/cli/net_view.h"
#include "client/studies/study.h"

namespace normlab::client {
namespace {

constexpr int kMostNames = 100;  // the newest; more than that nobody reads
constexpr absl::Duration kPatience = absl::Seconds(1);

void AddJobs(Client& client, std::vector<CompletionCandidate>& candidates) {
  normlab::v1::ListJobsRequest request;
  request.set_page_size(kMostNames);
  const auto page = client.ListJobs(request);
  if (!page.ok()) {
    return;
  }
  for (const normlab::v1::Job& job : page->jobs()) {
    candidates.push_back(
        {job.name(),
         absl::StrCat(normlab::v1::Job::State_Name(job.state()), " ",
                      job.display_name().empty()
                          ? absl::StrCat(FormatNet(job.spec().model()), " ",
                                         FormatNormalization(job.spec().normalization()))
                          : job.display_name())});
  }
}

void AddExperiments(Client& client, std::vector<CompletionCandidate>& candidates) {
  normlab::v1::ListExperimentsRequest request;
  request.set_page_size(kMostNames);
  const auto page = client.ListExperiments(request);
  if (!page.ok()) {
    return;
  }
  for (const normlab::v1::Experiment& experiment : page->experiments()) {
    candidates.push_back({experiment.name(), experiment.display_name()});
  }
}

// The series of the first job that is named; those of every job without one.
void AddSeries(Client& client,
               const std::vector<std::string>& arguments,
               std::vector<CompletionCandidate>& candidates) {
  std::set<std::string> names = {"train/loss", "train/accuracy", "train/learning_rate", "test/loss",
                                 "test/accuracy"};
  if (!arguments.empty() && !absl::StartsWith(arguments[0], "experiments/")) {
    normlab::v1::ReadMetricsRequest request;
    request.set_name(arguments[0]);
    request.set_max_points(5);  // only the names are wanted; fewer are refused
    std::set<std::string> found;
    const absl::Status status =
        client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
          found.insert(part.series());
          return absl::OkStatus();
        });
    if (status.ok() && !found.empty()) {
      names = std::move(found);
    }
  }
  for (const std::string& name : names) {
    candidates.push_back({name, ""});
  }
}

}  // namespace

std::string CompletionAnswer(const CompletionPlan& plan, CommandContext& context, size_t strip) {
  std::vector<CompletionCandidate> candidates = plan.fixed;
  ClientOptions options = context.MakeClientOptions({});
  options.timeout = std::min(options.timeout, kPatience);
  options.retry.give_up_after = absl::ZeroDuration();
  options.idle_timeout = kPatience;
  switch (plan.source) {
    case CompletionSource::kJobs:
    case CompletionSource::kExperiments:
    case CompletionSource::kJobsAndExperiments:
    case CompletionSource::kSeries: {
      Client client(options);
      if (plan.source == CompletionSource::kSeries) {
        AddSeries(client, plan.arguments, candidates);
        break;
      }
      if (plan.source != CompletionSource::kExperiments) {
        AddJobs(client, candidates);
      }
      if (plan.source != CompletionSource::kJobs) {
        AddExperiments(client, candidates);
      }
      break;
    }
    case CompletionSource::kStudies:
      for (const std::string& name : studies::StudyNames()) {
        candidates.push_back({name, ""});
      }
      break;
    case CompletionSource::kFiles:
    case CompletionSource::kNone:
      break;
  }
  std::string text = plan.source == CompletionSource::kFiles ? ":files\n" : ":none\n";
  for (const CompletionCandidate& candidate : candidates) {
    if (!absl::StartsWith(candidate.value, plan.typed)) {
      continue;
    }
    const std::string value = absl::StrCat(plan.prefix, candidate.value);
    // One line each, whatever others wrote.
    const std::string description = absl::StrReplaceAll(
        Printable(absl::StrReplaceAll(candidate.description, {{"\n", " "}})), {{"\t", " "}});
    absl::StrAppend(&text, Printable(value.substr(std::min(strip, value.size()))),
                    description.empty() ? "" : "\t", description, "\n");
  }
  return text;
}

}  // namespace normlab::client
