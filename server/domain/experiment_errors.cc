#include "server/domain/experiment_errors.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "server/domain/error_details.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr absl::string_view kExperimentType = "normlab.v1.Experiment";

}  // namespace

absl::Status InvalidExperiment(const std::vector<FieldViolation>& violations) {
  constexpr size_t kMaxInMessage = 20;
  google::rpc::BadRequest bad_request;
  std::string message = absl::StrCat("the experiment cannot be accepted (", violations.size(),
                                     violations.size() == 1 ? " problem): " : " problems): ");
  for (size_t i = 0; i < violations.size(); ++i) {
    auto* out = bad_request.add_field_violations();
    out->set_field(violations[i].field);
    out->set_description(violations[i].description);
    if (i < kMaxInMessage) {
      absl::StrAppend(&message, i == 0 ? "" : "; ", violations[i].field, ": ",
                      violations[i].description);
    }
  }
  if (violations.size() > kMaxInMessage) {
    absl::StrAppend(&message, "; and ", violations.size() - kMaxInMessage, " more");
  }
  absl::StrAppend(&message, ". Correct the named fields and submit again.");
  absl::Status status =
      MakeError(absl::StatusCode::kInvalidArgument, reason::kInvalidExperiment, message);
  AddDetail(status, bad_request);
  return status;
}

absl::Status ExperimentNotFound(absl::string_view name) {
  absl::Status status =
      MakeError(absl::StatusCode::kNotFound, reason::kExperimentNotFound,
                absl::StrCat("there is no experiment ", QuotedForMessage(name),
                             "; it may have been deleted, or be another server's: ListExperiments "
                             "(normlab experiment list) shows this server's experiments"),
                {{"experiment", std::string(name)}});
  AddResourceInfo(status, kExperimentType, name);
  return status;
}

absl::Status RequestedExperimentDeleted(absl::string_view request_id) {
  return MakeError(
      absl::StatusCode::kNotFound, reason::kExperimentDeleted,
      absl::StrCat("request_id ", QuotedForMessage(request_id),
                   " made an experiment that has been deleted since; use a new request_id "
                   "for a new experiment"));
}

absl::Status ExperimentRequestIdReused(absl::string_view request_id,
                                       absl::string_view experiment_name) {
  absl::Status status =
      MakeError(absl::StatusCode::kAlreadyExists, reason::kRequestIdReused,
                absl::StrCat("request_id ", QuotedForMessage(request_id),
                             " was already used, with another body, for ", experiment_name,
                             "; use a new request_id for a new experiment"),
                {{"experiment", std::string(experiment_name)}});
  AddResourceInfo(status, kExperimentType, experiment_name);
  return status;
}

absl::Status ExperimentNotDeletable(absl::string_view name, int64_t unfinished_jobs) {
  absl::Status status = MakeError(
      absl::StatusCode::kFailedPrecondition, reason::kExperimentUnfinished,
      absl::StrCat(unfinished_jobs, unfinished_jobs == 1 ? " job of " : " jobs of ", name,
                   unfinished_jobs == 1 ? " waits or runs" : " wait or run",
                   " still; cancel it first and wait for its end, or delete it with force"),
      {{"experiment", std::string(name)}, {"jobs", absl::StrCat(unfinished_jobs)}});
  AddResourceInfo(status, kExperimentType, name);
  return status;
}

}  // namespace normlab::server
