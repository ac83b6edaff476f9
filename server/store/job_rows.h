#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/store/connection.h"
#include "server/store/queue_entry.h"
#include "server/store/store.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"

// Jobs as rows. All functions may throw SQLite::Exception; a row that cannot be decoded is
// DATA_LOSS.
namespace normlab::server {

// How much of a job is read.
enum class JobParts {
  kSummary,  // without attempts and resolved_spec
  kAll,
};

// The internal key of a job and what queries of its records need. NOT_FOUND.
struct JobHead {
  int64_t key = 0;
  v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
  int64_t last_sequence = 0;
};
absl::StatusOr<JobHead> ReadJobHead(Connection& connection, const std::string& job_id);

absl::StatusOr<v1::Job> ReadJobByKey(Connection& connection, int64_t key, JobParts parts);

// A new job in the form in which it is stored.
struct JobRow {
  std::string id;
  std::string owner;
  v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
  int64_t create_time_us = 0;
  std::optional<int64_t> end_time_us;
  std::string experiment;
  std::string summary;
  std::string details;
  std::string progress;
  int64_t last_sequence = 0;
  std::vector<std::pair<std::string, std::string>> labels;
  QueueEntry queue;
};
JobRow MakeJobRow(const std::string& job_id, const v1::Job& job);

// Stores a new job (its id must be free) and answers its key.
int64_t InsertJobRow(Connection& connection, const JobRow& row);
int64_t InsertJob(Connection& connection, const std::string& job_id, const v1::Job& job);
// Replaces everything of a job but its progress and its records.
void WriteJob(Connection& connection, int64_t key, const v1::Job& job);
// Replaces progress and last_sequence.
void WriteProgress(Connection& connection, int64_t key, const v1::Job& job);
// Makes the label index say what job.labels() does.
void WriteLabels(Connection& connection, int64_t key, const v1::Job& job);

// How long a request_id is remembered.
inline constexpr absl::Duration kRequestLifetime = absl::Hours(24 * 7);

// The job that was created for this (owner, request_id); none when it was not used in the last
// kRequestLifetime. ALREADY_EXISTS: it was used with another hash; NOT_FOUND: its job was deleted.
absl::StatusOr<std::optional<v1::Job>> FindRequestedJob(Connection& connection,
                                                        const std::string& owner,
                                                        const std::string& request_id,
                                                        const std::string& request_sha256,
                                                        absl::Time now);

// NOT_FOUND.
absl::StatusOr<AttemptSecrets> ReadAttemptSecrets(Connection& connection,
                                                  int64_t job_key,
                                                  int32_t number);
void WriteAttemptSecrets(Connection& connection,
                         int64_t job_key,
                         int32_t number,
                         const AttemptSecrets& secrets);

// Where a series ends.
struct SeriesTail {
  v1::Series series;
  int64_t points = 0;
  int64_t nans = 0;
  int64_t last_step = -1;
  double last_value = 0;
  bool changed = false;  // since it was read or written
};
// In the order of ids, which are 1, 2, ...
std::vector<SeriesTail> ReadSeriesTails(Connection& connection, int64_t job_key);
void WriteSeriesTail(Connection& connection, int64_t job_key, const SeriesTail& tail);

// Parses a message out of a row; DATA_LOSS when it cannot be.
absl::Status ParseRow(Connection& connection,
                      absl::string_view bytes,
                      google::protobuf::Message& message);

int64_t CreateTimeMicros(const v1::Job& job);
// When a terminal job ended; none: it is not terminal.
std::optional<int64_t> EndTimeMicros(const v1::Job& job);

}  // namespace normlab::server
