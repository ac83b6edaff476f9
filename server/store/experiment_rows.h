#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/store/connection.h"
#include "server/store/experiment_store.h"

#include "normlab/v1/experiments.pb.h"

// Experiments as rows. An experiment's jobs have consecutive keys, given in its own transaction: a
// job's position is its key less the first one's. All functions may throw SQLite::Exception; a row
// that cannot be decoded is DATA_LOSS.
namespace normlab::server {

struct ExperimentHead {
  int64_t key = 0;
  std::string id;
  std::string owner;
  int64_t create_time_us = 0;
  int64_t first_job_key = 0;
  int64_t jobs = 0;  // as many as were created
};
// NOT_FOUND.
absl::StatusOr<ExperimentHead> ReadExperimentHead(Connection& connection, const std::string& id);

// Stores a new experiment, whose id must be free.
void InsertExperiment(Connection& connection,
                      const ExperimentHead& head,
                      const v1::Experiment& experiment);

// With counts and end time.
absl::StatusOr<StoredExperiment> ReadExperiment(Connection& connection,
                                                const ExperimentHead& head,
                                                ExperimentStore::Parts parts);

// By position; STATE_UNSPECIFIED for a job that was deleted.
std::vector<v1::Job::State> ReadJobStates(Connection& connection, const ExperimentHead& head);

// Whether there is an experiment of that name (experiments/<id>).
bool ExperimentExists(Connection& connection, const std::string& name);

// Jobs that wait or run.
int64_t CountUnfinished(Connection& connection, const std::string& name);

// The experiment that was created for this (owner, request_id); none when it was not used in the
// last kRequestLifetime. ALREADY_EXISTS: it was used with another hash; NOT_FOUND: it was deleted.
absl::StatusOr<std::optional<v1::Experiment>> FindRequestedExperiment(
    Connection& connection,
    const std::string& owner,
    const std::string& request_id,
    const std::string& request_sha256,
    absl::Time now);
void RememberExperimentRequest(Connection& connection,
                               const ExperimentHead& head,
                               const std::string& request_id,
                               const std::string& request_sha256);

// A page, as ExperimentStore::List.
absl::StatusOr<ExperimentPage> ListExperimentPage(Connection& connection,
                                                  const std::optional<std::string>& owner,
                                                  int page_size,
                                                  const std::string& page_token);

// As ExperimentStore::ReadResults.
absl::StatusOr<std::vector<ExperimentResult>> ReadExperimentResults(
    Connection& connection,
    const ExperimentHead& head,
    const std::vector<std::string>& series,
    int64_t from_position,
    int limit);

}  // namespace normlab::server
