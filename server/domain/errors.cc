#include "server/domain/errors.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "server/domain/error_details.h"
#include "server/domain/names.h"
#include "server/domain/states.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxNamesInMessage = 10;
constexpr size_t kMaxViolationsInMessage = 20;

constexpr absl::string_view kJobType = "normlab.v1.Job";
constexpr absl::string_view kArtifactType = "normlab.v1.Artifact";
constexpr absl::Duration kStorageRetry = absl::Seconds(1);
constexpr absl::Duration kReaderRetry = absl::Milliseconds(100);

absl::Status WithViolations(absl::string_view error_reason,
                            absl::string_view intro,
                            const std::vector<FieldViolation>& violations,
                            absl::string_view outro) {
  google::rpc::BadRequest bad_request;
  std::vector<std::string> lines;
  for (const FieldViolation& violation : violations) {
    auto* out = bad_request.add_field_violations();
    out->set_field(violation.field);
    out->set_description(violation.description);
    if (lines.size() < kMaxViolationsInMessage) {
      lines.push_back(absl::StrCat(violation.field, ": ", violation.description));
    }
  }
  if (violations.size() > lines.size()) {
    lines.push_back(absl::StrCat("and ", violations.size() - lines.size(), " more"));
  }
  absl::Status status = MakeError(absl::StatusCode::kInvalidArgument, error_reason,
                                  absl::StrCat(intro, absl::StrJoin(lines, "; "), outro));
  AddDetail(status, bad_request);
  return status;
}

}  // namespace

absl::Status InvalidSpec(const std::vector<FieldViolation>& violations) {
  return WithViolations(reason::kInvalidSpec,
                        absl::StrCat("the job cannot be accepted (", violations.size(),
                                     violations.size() == 1 ? " problem): " : " problems): "),
                        violations, ". Correct the named fields and submit again.");
}

absl::Status InvalidRequest(const std::vector<FieldViolation>& violations) {
  return WithViolations(reason::kInvalidArgument,
                        absl::StrCat("the request cannot be served (", violations.size(),
                                     violations.size() == 1 ? " problem): " : " problems): "),
                        violations, ". Correct the named fields and try again.");
}

absl::Status InvalidArgument(absl::string_view field, absl::string_view description) {
  return WithViolations(reason::kInvalidArgument, "",
                        {{std::string(field), std::string(description)}}, "");
}

absl::Status InvalidPageToken() {
  google::rpc::BadRequest bad_request;
  bad_request.add_field_violations()->set_field("page_token");
  bad_request.mutable_field_violations(0)->set_description(
      "is not a token that this filter's earlier page answered");
  absl::Status status =
      MakeError(absl::StatusCode::kInvalidArgument, reason::kInvalidPageToken,
                "page_token is not one that an earlier page of the same filter answered; use "
                "next_page_token unchanged with the same filter, or leave it out to start again");
  AddDetail(status, bad_request);
  return status;
}

absl::Status JobNotFound(absl::string_view name) {
  absl::Status status = MakeError(
      absl::StatusCode::kNotFound, reason::kJobNotFound,
      absl::StrCat("there is no job ", QuotedForMessage(name),
                   "; it may have been deleted, or be another server's: ListJobs (normlab "
                   "list) shows this server's jobs"),
      {{"job", std::string(name)}});
  AddResourceInfo(status, kJobType, name);
  return status;
}

absl::Status SeriesNotFound(absl::string_view job_name,
                            absl::string_view series,
                            const std::vector<std::string>& existing) {
  const size_t shown = std::min(existing.size(), kMaxNamesInMessage);
  std::string names = absl::StrJoin(existing.begin(), existing.begin() + shown, ", ");
  if (shown < existing.size()) {
    absl::StrAppend(&names, " and ", existing.size() - shown, " more");
  }
  absl::Status status = MakeError(
      absl::StatusCode::kNotFound, reason::kSeriesNotFound,
      absl::StrCat(job_name, " has no series ", QuotedForMessage(series),
                   existing.empty()
                       ? std::string("; it has reported no metrics yet: ask again once it runs")
                       : absl::StrCat("; it has ", names,
                                      ": ask for some of these, or for all by "
                                      "naming none")),
      {{"job", std::string(job_name)}, {"series", std::string(series)}});
  AddResourceInfo(status, "normlab.v1.Series", series);
  return status;
}

absl::Status RequestIdReused(absl::string_view request_id, absl::string_view job_name) {
  absl::Status status = MakeError(absl::StatusCode::kAlreadyExists, reason::kRequestIdReused,
                                  absl::StrCat("request_id ", QuotedForMessage(request_id),
                                               " was already used, with another body, for ",
                                               job_name, "; use a new request_id for a new job"),
                                  {{"job", std::string(job_name)}});
  AddResourceInfo(status, kJobType, job_name);
  return status;
}

absl::Status RequestedJobDeleted(absl::string_view request_id) {
  return MakeError(
      absl::StatusCode::kNotFound, reason::kJobDeleted,
      absl::StrCat("request_id ", QuotedForMessage(request_id),
                   " made a job that has been deleted since; use a new request_id for a "
                   "new job"));
}

absl::Status JobNotDeletable(const v1::Job& job) {
  absl::Status status = MakeError(absl::StatusCode::kFailedPrecondition, reason::kIllegalTransition,
                                  absl::StrCat(job.name(), " is ", StateName(job.state()),
                                               "; only a job that has ended or is paused can be "
                                               "deleted: cancel it first, or delete it with force"),
                                  {{"state", StateName(job.state())}});
  AddResourceInfo(status, kJobType, job.name());
  return status;
}

absl::Status ArtifactNotFound(absl::string_view name) {
  absl::Status status = MakeError(
      absl::StatusCode::kNotFound, reason::kArtifactNotFound,
      absl::StrCat("there is no artifact ", QuotedForMessage(name),
                   " (a running job keeps its newest checkpoints only); list those that there are "
                   "with ListArtifacts (normlab artifacts)"));
  AddResourceInfo(status, kArtifactType, name);
  return status;
}

absl::Status ArtifactDamaged(absl::string_view name, absl::string_view detail) {
  absl::Status status = MakeError(
      absl::StatusCode::kDataLoss, reason::kArtifactDamaged,
      absl::StrCat("the file of ", name, " is not there as it was written (", detail,
                   "); somebody changed the server's work folder: restore it from a backup, "
                   "or run the job again, which gives the same weights"));
  AddResourceInfo(status, kArtifactType, name);
  return status;
}

absl::Status OffsetOutOfRange(int64_t offset, int64_t bytes) {
  return MakeError(absl::StatusCode::kOutOfRange, reason::kOffsetOutOfRange,
                   absl::StrCat("offset ", offset, " is beyond the end of the file, which has ",
                                bytes, " bytes; start again from 0"),
                   {{"bytes", absl::StrCat(bytes)}});
}

absl::Status JobIdTaken(absl::string_view job_name) {
  absl::Status status = MakeError(
      absl::StatusCode::kAlreadyExists, reason::kJobIdTaken,
      absl::StrCat("there is a job ", job_name, " already; submit again to get a new id"));
  AddResourceInfo(status, kJobType, job_name);
  return status;
}

absl::Status AlreadyTerminal(const v1::Job& job) {
  absl::Status status =
      MakeError(absl::StatusCode::kFailedPrecondition, reason::kJobTerminal,
                absl::StrCat(job.name(), " has already ended: it is ", StateName(job.state()),
                             "; submit its spec again for another run"),
                {{"job", job.name()}, {"state", StateName(job.state())}});
  AddResourceInfo(status, kJobType, job.name());
  return status;
}

absl::Status IllegalTransition(const v1::Job& job,
                               absl::string_view verb,
                               absl::string_view allowed) {
  absl::Status status =
      MakeError(absl::StatusCode::kFailedPrecondition, reason::kIllegalTransition,
                absl::StrCat("cannot ", verb, " ", job.name(), ": it is ", StateName(job.state()),
                             ", and this is possible only when it is ", allowed,
                             "; look at its present state with GetJob (normlab get)"),
                {{"job", job.name()}, {"state", StateName(job.state())}});
  AddResourceInfo(status, kJobType, job.name());
  return status;
}

FieldViolation DoesNotFitViolation(absl::string_view field,
                                   absl::string_view what,
                                   absl::string_view needed,
                                   absl::string_view limit,
                                   absl::string_view remedy) {
  // "needs 64 cores", "needs 3 GiB of memory"
  const bool counted = what == "cores";
  return {std::string(field),
          absl::StrCat("needs ", needed, counted ? " " : " of ", what, " and the server has ",
                       limit, " for jobs, so it could never start; ", remedy)};
}

absl::Status Overloaded(absl::Duration retry_after) {
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kOverloaded,
                absl::StrCat("the server has too many requests waiting; try again in ",
                             absl::FormatDuration(retry_after)));
  AddRetryInfo(status, retry_after);
  return status;
}

absl::Status EndTakesTime(absl::string_view name) {
  constexpr absl::Duration kRetry = absl::Seconds(30);
  absl::Status status =
      MakeError(absl::StatusCode::kDeadlineExceeded, reason::kNotEndedYet,
                absl::StrCat(name,
                             " was cancelled, but has not ended yet; delete it again in a "
                             "minute"));
  AddRetryInfo(status, kRetry);
  return status;
}

absl::Status TooManyInspections(absl::Duration retry_after) {
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kOverloaded,
                absl::StrCat("too many data sets of this owner wait to be looked at; try again in ",
                             absl::FormatDuration(retry_after)));
  AddRetryInfo(status, retry_after);
  return status;
}

absl::Status ShuttingDown(absl::Duration retry_after) {
  absl::Status status = MakeError(
      absl::StatusCode::kUnavailable, reason::kShuttingDown,
      absl::StrCat("the server is shutting down; try again in ", absl::FormatDuration(retry_after),
                   ", when it may have been restarted"));
  AddRetryInfo(status, retry_after);
  return status;
}

absl::Status SequenceOutOfRange(int64_t asked, int64_t last) {
  return MakeError(
      absl::StatusCode::kOutOfRange, reason::kSequenceOutOfRange,
      absl::StrCat("after_sequence ", asked,
                   " is beyond the job's last record, which has sequence ", last,
                   "; start at most there, or at 0 for everything"),
      {{"after_sequence", absl::StrCat(asked)}, {"last_sequence", absl::StrCat(last)}});
}

absl::Status AttemptSuperseded(const v1::Job& job, int32_t asked) {
  const int32_t last = job.attempts().empty() ? 0 : job.attempts().rbegin()->number();
  return MakeError(
      absl::StatusCode::kFailedPrecondition, reason::kAttemptSuperseded,
      absl::StrCat("attempt ", asked, " of ", job.name(), " is not its current one (the job is ",
                   StateName(job.state()), ", its last attempt ", last, "); this worker must end"),
      {{"job", job.name()},
       {"state", StateName(job.state())},
       {"attempt", absl::StrCat(asked)},
       {"last_attempt", absl::StrCat(last)}});
}

absl::Status ReportOutOfOrder(int64_t asked, int64_t expected) {
  return MakeError(absl::StatusCode::kFailedPrecondition, reason::kReportOutOfOrder,
                   absl::StrCat("report ", asked, " came while ", expected,
                                " is the next one; connect again and send from the one after "
                                "Welcome.last_report"),
                   {{"report", absl::StrCat(asked)}, {"expected", absl::StrCat(expected)}});
}

absl::Status InvalidReport(absl::string_view description) {
  return MakeError(
      absl::StatusCode::kInvalidArgument, reason::kInvalidReport,
      absl::StrCat("the worker's report breaks the protocol: ", description,
                   "; check that normlabd and normlab-worker are of the same version"));
}

absl::Status UnauthenticatedWorker() {
  return MakeError(
      absl::StatusCode::kUnauthenticated, reason::kUnauthenticatedWorker,
      "the secret is not that of this attempt; only the process that the server started "
      "for it may report");
}

absl::Status ReaderTooSlow(absl::Duration timeout, absl::string_view advice) {
  absl::Status status =
      MakeError(absl::StatusCode::kUnavailable, reason::kReaderTooSlow,
                absl::StrCat("this stream's reader took nothing for ",
                             absl::FormatDuration(timeout), " and was cut off; ", advice));
  AddRetryInfo(status, kReaderRetry);
  return status;
}

absl::Status StorageFull(absl::string_view detail) {
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kStorageFull,
                absl::StrCat("nothing was stored because the disk of the data folder is full (",
                             detail, "); make room on it: the server goes on by itself then"));
  AddRetryInfo(status, kStorageRetry);
  return status;
}

absl::Status StorageUnavailable(absl::string_view detail) {
  absl::Status status = MakeError(
      absl::StatusCode::kUnavailable, reason::kStorageUnavailable,
      absl::StrCat("the data folder could not be read or written (", detail,
                   "); check the disk, its mount and its permissions: the server goes on by "
                   "itself once it works"));
  AddRetryInfo(status, kStorageRetry);
  return status;
}

absl::Status CorruptDatabase(absl::string_view path, absl::string_view detail) {
  return MakeError(
      absl::StatusCode::kDataLoss, reason::kDataLoss,
      absl::StrCat("the database ", path, " is damaged (", detail,
                   "); restore it from a backup, or move it away together with its -wal "
                   "and -shm files to start with an empty one (sqlite3's .recover may "
                   "save what it holds)"),
      {{"path", std::string(path)}});
}

absl::Status UnsupportedDatabase(absl::string_view path, absl::string_view detail) {
  return MakeError(absl::StatusCode::kFailedPrecondition, reason::kUnsupportedDatabase,
                   absl::StrCat("the database ", path, " cannot be used: ", detail),
                   {{"path", std::string(path)}});
}

absl::Status NetworkFilesystem(absl::string_view path, absl::string_view type) {
  return MakeError(
      absl::StatusCode::kFailedPrecondition, reason::kNetworkFilesystem,
      absl::StrCat("the data folder ", path, " is on a network file system (", type,
                   "), where the database cannot be kept safe; choose a folder on a local "
                   "disk with --data_dir (--work_dir may stay on shared storage)"),
      {{"path", std::string(path)}, {"type", std::string(type)}});
}

absl::Status TensorTooLarge(absl::string_view field, int64_t max_values) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(absl::StrCat(
      "has more than ", max_values, " values; send a part of it, for example fewer examples"));
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kTensorTooLarge,
                absl::StrCat(violation->field(), ": ", violation->description()),
                {{"field", std::string(field)}, {"max_values", absl::StrCat(max_values)}});
  AddDetail(status, bad_request);
  return status;
}

absl::Status HelperCrashed(absl::string_view detail) {
  return MakeError(
      absl::StatusCode::kInternal, reason::kHelperCrashed,
      absl::StrCat("the process that computed this failed; the server and all other "
                   "requests go on. Try again, and if the same input does it again please "
                   "report it (",
                   detail, ")"));
}

absl::Status HelperTimeout(absl::Duration limit) {
  return MakeError(absl::StatusCode::kDeadlineExceeded, reason::kHelperTimeout,
                   absl::StrCat("there was no result within ", absl::FormatDuration(limit),
                                ", waiting included; send a smaller tensor, or try again when the "
                                "server is less busy"));
}

absl::Status DataNotReadInTime(absl::Duration limit) {
  return MakeError(
      absl::StatusCode::kDeadlineExceeded, reason::kHelperTimeout,
      absl::StrCat("the job's data files could not be looked at within ",
                   absl::FormatDuration(limit),
                   "; try again, and if it happens again look at the disk they lie on"));
}

absl::Status InternalError(absl::string_view detail) {
  return MakeError(
      absl::StatusCode::kInternal, reason::kInternal,
      absl::StrCat("a bug in the server: ", detail, "; please report it with the server's log"));
}

absl::Status WithReason(absl::Status status) {
  if (!status.ok() && ReasonOf(status).empty()) {
    google::rpc::ErrorInfo info;
    info.set_reason(std::string(reason::kUnspecified));
    info.set_domain(std::string(kErrorDomain));
    AddDetail(status, info);
  }
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::ErrorInfo>(status);
  return info.has_value() ? info->reason() : std::string();
}

}  // namespace normlab::server
