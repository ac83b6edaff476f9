#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <google/protobuf/repeated_ptr_field.h>

#include "server/store/connection.h"
#include "server/store/store.h"

#include "normlab/v1/worker.pb.h"

// Files of jobs as rows. Functions with a connection may throw SQLite::Exception.
namespace normlab::server {

using ArtifactFiles = google::protobuf::RepeatedPtrField<v1::ArtifactFile>;

// Of one file: far beyond any, and thousands of them still have a sum.
inline constexpr int64_t kMaxFileBytes = int64_t{1} << 50;

// Whether a path, relative to the work folder, lies below the attempt's own folder.
bool IsBelowAttempt(const AttemptKey& attempt, const std::string& path);

// INVALID_ARGUMENT (INVALID_REPORT): a path that is not below the attempt's own folder, a digest that is
// none, or a size that no file has.
absl::Status CheckArtifactFiles(const AttemptKey& attempt, const ArtifactFiles& files);

// Adds files that an attempt wrote after `step` updates. With a checkpoint, those of the same attempt
// older than its last two go, as the worker removes them, and those of earlier attempts, whose files
// are removed after this commit. Answers the bytes of all files of the job.
int64_t WriteArtifacts(Connection& connection,
                       int64_t job_key,
                       int32_t attempt,
                       int64_t step,
                       bool final,
                       const ArtifactFiles& files,
                       absl::Time now);

// Oldest first.
std::vector<StoredArtifact> ReadArtifacts(Connection& connection,
                                          int64_t job_key,
                                          const std::string& job_id);

}  // namespace normlab::server
