#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"

#include "normlab/v1/job.pb.h"

// Every error that a user can see is made here. Each carries google.rpc.ErrorInfo (a reason of the
// list below, domain "normlab", facts as metadata) and where they apply BadRequest, RetryInfo and
// ResourceInfo, as payloads of the absl::Status: type URL
// "type.googleapis.com/google.rpc.ErrorInfo" etc., value the serialized message. Every message ends
// with what to do next. Pure functions, thread-safe.
namespace normlab::server {

inline constexpr absl::string_view kErrorDomain = "normlab";
inline constexpr absl::string_view kTypeUrlPrefix = "type.googleapis.com/";

namespace reason {
inline constexpr absl::string_view kInvalidSpec = "INVALID_SPEC";
inline constexpr absl::string_view kInvalidArgument = "INVALID_ARGUMENT";
inline constexpr absl::string_view kInvalidPageToken = "INVALID_PAGE_TOKEN";
inline constexpr absl::string_view kJobNotFound = "JOB_NOT_FOUND";
inline constexpr absl::string_view kSeriesNotFound = "SERIES_NOT_FOUND";
inline constexpr absl::string_view kRequestIdReused = "REQUEST_ID_REUSED";
inline constexpr absl::string_view kJobDeleted = "JOB_DELETED";
inline constexpr absl::string_view kArtifactNotFound = "ARTIFACT_NOT_FOUND";
inline constexpr absl::string_view kArtifactDamaged = "ARTIFACT_DAMAGED";
inline constexpr absl::string_view kOffsetOutOfRange = "OFFSET_OUT_OF_RANGE";
inline constexpr absl::string_view kJobIdTaken = "JOB_ID_TAKEN";
inline constexpr absl::string_view kJobTerminal = "JOB_TERMINAL";
inline constexpr absl::string_view kIllegalTransition = "ILLEGAL_TRANSITION";
inline constexpr absl::string_view kOverloaded = "OVERLOADED";
inline constexpr absl::string_view kQueueFull = "QUEUE_FULL";
inline constexpr absl::string_view kOwnerQueueFull = "OWNER_QUEUE_FULL";
inline constexpr absl::string_view kShuttingDown = "SHUTTING_DOWN";
inline constexpr absl::string_view kNotEndedYet = "NOT_ENDED_YET";
inline constexpr absl::string_view kSequenceOutOfRange = "SEQUENCE_OUT_OF_RANGE";
inline constexpr absl::string_view kAttemptSuperseded = "ATTEMPT_SUPERSEDED";
inline constexpr absl::string_view kReportOutOfOrder = "REPORT_OUT_OF_ORDER";
inline constexpr absl::string_view kInvalidReport = "INVALID_REPORT";
inline constexpr absl::string_view kUnauthenticatedWorker = "UNAUTHENTICATED_WORKER";
inline constexpr absl::string_view kReaderTooSlow = "READER_TOO_SLOW";
inline constexpr absl::string_view kStorageFull = "STORAGE_FULL";
inline constexpr absl::string_view kStorageUnavailable = "STORAGE_UNAVAILABLE";
inline constexpr absl::string_view kDataLoss = "DATA_LOSS";
inline constexpr absl::string_view kUnsupportedDatabase = "UNSUPPORTED_DATABASE";
inline constexpr absl::string_view kNetworkFilesystem = "NETWORK_FILESYSTEM";
inline constexpr absl::string_view kTensorTooLarge = "TENSOR_TOO_LARGE";
inline constexpr absl::string_view kHelperCrashed = "HELPER_CRASHED";
inline constexpr absl::string_view kHelperTimeout = "HELPER_TIMEOUT";
inline constexpr absl::string_view kInternal = "INTERNAL";
inline constexpr absl::string_view kUnspecified = "UNSPECIFIED";
}  // namespace reason

struct FieldViolation {
  std::string field;        // path, for example spec.model.mlp.hidden[1]
  std::string description;  // what is wrong and what to do
};

// INVALID_ARGUMENT with every violation, in the message and as BadRequest. `violations` is not
// empty.
absl::Status InvalidSpec(const std::vector<FieldViolation>& violations);
// The same for a request that makes no job.
absl::Status InvalidRequest(const std::vector<FieldViolation>& violations);
// INVALID_ARGUMENT on one field of a request.
absl::Status InvalidArgument(absl::string_view field, absl::string_view description);
// INVALID_ARGUMENT.
absl::Status InvalidPageToken();
// NOT_FOUND. `name` is jobs/<id>.
absl::Status JobNotFound(absl::string_view name);
// NOT_FOUND: `series` is none of the job's; the message names some of those it has.
absl::Status SeriesNotFound(absl::string_view job_name,
                            absl::string_view series,
                            const std::vector<std::string>& existing);
// ALREADY_EXISTS: the request_id was used for another body; names the job it made.
absl::Status RequestIdReused(absl::string_view request_id, absl::string_view job_name);
// NOT_FOUND: the job that this request_id made was deleted since.
absl::Status RequestedJobDeleted(absl::string_view request_id);
// FAILED_PRECONDITION: only a terminal or paused job can be deleted.
absl::Status JobNotDeletable(const v1::Job& job);
// NOT_FOUND: no artifact of this name, or one whose file the worker has replaced since.
absl::Status ArtifactNotFound(absl::string_view name);
// DATA_LOSS: the file of an artifact is gone or is not what was written.
absl::Status ArtifactDamaged(absl::string_view name, absl::string_view detail);
// OUT_OF_RANGE: a position beyond the end of a file.
absl::Status OffsetOutOfRange(int64_t offset, int64_t bytes);
// ALREADY_EXISTS.
absl::Status JobIdTaken(absl::string_view job_name);
// FAILED_PRECONDITION: the job has ended.
absl::Status AlreadyTerminal(const v1::Job& job);
// FAILED_PRECONDITION: `verb` ("begin an attempt of") is not possible in the job's state; `allowed`
// says in which.
absl::Status IllegalTransition(const v1::Job& job,
                               absl::string_view verb,
                               absl::string_view allowed);
// For InvalidSpec: `field` needs more of `what` ("memory", "cores") than the server will ever have.
// Amounts with their units as people read them; `remedy` is a sentence.
FieldViolation DoesNotFitViolation(absl::string_view field,
                                   absl::string_view what,
                                   absl::string_view needed,
                                   absl::string_view limit,
                                   absl::string_view remedy);
// RESOURCE_EXHAUSTED with RetryInfo.
absl::Status Overloaded(absl::Duration retry_after);
// RESOURCE_EXHAUSTED with RetryInfo: of this owner too many data sets wait to be looked at.
absl::Status TooManyInspections(absl::Duration retry_after);
// UNAVAILABLE with RetryInfo.
absl::Status ShuttingDown(absl::Duration retry_after);
// DEADLINE_EXCEEDED: `name` was cancelled, but its end takes longer than a call may wait.
absl::Status EndTakesTime(absl::string_view name);
// OUT_OF_RANGE: a position beyond the last record.
absl::Status SequenceOutOfRange(int64_t asked, int64_t last);
// FAILED_PRECONDITION: the fence; for workers.
absl::Status AttemptSuperseded(const v1::Job& job, int32_t asked);
// FAILED_PRECONDITION: a report number was left out.
absl::Status ReportOutOfOrder(int64_t asked, int64_t expected);
// INVALID_ARGUMENT: a worker's report breaks the protocol.
absl::Status InvalidReport(absl::string_view description);
// UNAUTHENTICATED.
absl::Status UnauthenticatedWorker();
// RESOURCE_EXHAUSTED with RetryInfo: the disk is full.
absl::Status StorageFull(absl::string_view detail);
// UNAVAILABLE with RetryInfo: the reader of a stream took nothing for `timeout`; `advice` says how to
// go on.
absl::Status ReaderTooSlow(absl::Duration timeout, absl::string_view advice);
// UNAVAILABLE with RetryInfo: the disk failed or is read-only.
absl::Status StorageUnavailable(absl::string_view detail);
// DATA_LOSS: the database at `path` is damaged.
absl::Status CorruptDatabase(absl::string_view path, absl::string_view detail);
// FAILED_PRECONDITION: the database at `path` is not one that this version can use.
absl::Status UnsupportedDatabase(absl::string_view path, absl::string_view detail);
// FAILED_PRECONDITION.
absl::Status NetworkFilesystem(absl::string_view path, absl::string_view type);
// RESOURCE_EXHAUSTED: the tensor at `field` of a request has more than so many values.
absl::Status TensorTooLarge(absl::string_view field, int64_t max_values);
// INTERNAL: the process that worked on this request ended.
absl::Status HelperCrashed(absl::string_view detail);
// DEADLINE_EXCEEDED: the process that works on requests had no answer in time.
absl::Status HelperTimeout(absl::Duration limit);
// The same for a job's data files.
absl::Status DataNotReadInTime(absl::Duration limit);
// INTERNAL: a bug of ours.
absl::Status InternalError(absl::string_view detail);

// The same status with an ErrorInfo if it had none, reason kUnspecified: what leaves the server always
// has one. OK stays OK.
absl::Status WithReason(absl::Status status);

// Attaches a google.rpc detail message to a status.
template <typename Detail>
void AddDetail(absl::Status& status, const Detail& detail) {
  status.SetPayload(std::string(kTypeUrlPrefix) + Detail::descriptor()->full_name(),
                    absl::Cord(detail.SerializeAsString()));
}

// The detail of that type, when the status has one.
template <typename Detail>
std::optional<Detail> GetDetail(const absl::Status& status) {
  const auto payload =
      status.GetPayload(std::string(kTypeUrlPrefix) + Detail::descriptor()->full_name());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return detail;
}

// ErrorInfo.reason; empty when the status was not made here.
std::string ReasonOf(const absl::Status& status);

}  // namespace normlab::server
