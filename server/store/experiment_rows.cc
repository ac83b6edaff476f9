#include "server/store/experiment_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

// Everything but cells, and only the cells: a page of a list, or a look at the counts, need not read
// the names of ten thousand jobs.
std::string Summary(const v1::Experiment& experiment) {
  v1::Experiment summary = experiment;
  summary.clear_cells();
  summary.clear_counts();
  summary.clear_end_time();
  return summary.SerializeAsString();
}

std::string Cells(const v1::Experiment& experiment) {
  v1::Experiment cells;
  for (const v1::Cell& cell : experiment.cells()) {
    v1::Cell& stored = *cells.add_cells();
    stored = cell;
    stored.clear_counts();
  }
  return cells.SerializeAsString();
}

void Count(v1::Job::State state, v1::JobCounts& counts) {
  switch (state) {
    case v1::Job::QUEUED:
      counts.set_queued(counts.queued() + 1);
      break;
    case v1::Job::STARTING:
    case v1::Job::RUNNING:
      counts.set_running(counts.running() + 1);
      break;
    case v1::Job::SUCCEEDED:
      counts.set_succeeded(counts.succeeded() + 1);
      break;
    case v1::Job::DIVERGED:
      counts.set_diverged(counts.diverged() + 1);
      break;
    case v1::Job::FAILED:
      counts.set_failed(counts.failed() + 1);
      break;
    case v1::Job::CANCELLED:
      counts.set_cancelled(counts.cancelled() + 1);
      break;
    case v1::Job::PAUSED:
      counts.set_paused(counts.paused() + 1);
      break;
    default:
      break;
  }
}

// States of the jobs that there are, by position, and what follows from them.
void FillStates(Connection& connection, const ExperimentHead& head, StoredExperiment& stored) {
  stored.states.assign(static_cast<size_t>(head.jobs), v1::Job::STATE_UNSPECIFIED);
  const std::string name = ExperimentName(head.id);
  bool ended = true;
  int64_t last_end = head.create_time_us;
  Query query(connection,
              "SELECT key, state, end_time_us FROM jobs INDEXED BY jobs_by_experiment_state "
              "WHERE experiment > '' AND experiment = ?",
              name);
  while (query.Step()) {
    const int64_t position = query.Int(0) - head.first_job_key;
    const auto state = static_cast<v1::Job::State>(query.Int(1));
    if (position < 0 || position >= head.jobs) {
      continue;
    }
    stored.states[static_cast<size_t>(position)] = state;
    Count(state, *stored.experiment.mutable_counts());
    if (IsTerminal(state)) {
      last_end = std::max(last_end, query.Int(2));
    } else {
      ended = false;
    }
  }
  if (ended) {
    *stored.experiment.mutable_end_time() = ToTimestamp(absl::FromUnixMicros(last_end));
  }
  size_t position = 0;
  for (v1::Cell& cell : *stored.experiment.mutable_cells()) {
    v1::JobCounts& counts = *cell.mutable_counts();
    for (int seed = 0; seed < cell.jobs_size() && position < stored.states.size(); ++seed) {
      Count(stored.states[position++], counts);
    }
  }
}

ExperimentHead HeadFrom(const Query& query) {
  return {query.Int(0), query.Text(1), query.Text(2), query.Int(3), query.Int(4), query.Int(5)};
}

double DoubleFrom(absl::string_view bytes) {
  double value = std::numeric_limits<double>::quiet_NaN();
  if (bytes.size() == sizeof value) {
    std::memcpy(&value, bytes.data(), sizeof value);
  }
  return value;
}

}  // namespace

absl::StatusOr<ExperimentHead> ReadExperimentHead(Connection& connection, const std::string& id) {
  Query query(connection,
              "SELECT key, id, owner, create_time_us, first_job_key, jobs FROM experiments "
              "WHERE id = ?",
              id);
  if (!query.Step()) {
    return ExperimentNotFound(ExperimentName(id));
  }
  return HeadFrom(query);
}

void InsertExperiment(Connection& connection,
                      const ExperimentHead& head,
                      const v1::Experiment& experiment) {
  const std::string summary = Summary(experiment);
  const std::string cells = Cells(experiment);
  Query(connection,
        "INSERT INTO experiments(id, owner, create_time_us, first_job_key, jobs, summary, cells) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        head.id, head.owner, head.create_time_us, head.first_job_key, head.jobs, Blob{summary},
        Blob{cells})
      .Run();
}

absl::StatusOr<StoredExperiment> ReadExperiment(Connection& connection,
                                                const ExperimentHead& head,
                                                ExperimentStore::Parts parts) {
  StoredExperiment stored;
  {
    // The cells come last in the row, so that they are not read where they are not wanted.
    const bool all = parts == ExperimentStore::Parts::kAll;
    Query query(connection,
                all ? "SELECT summary, cells FROM experiments WHERE key = ?"
                    : "SELECT summary FROM experiments WHERE key = ?",
                head.key);
    if (!query.Step()) {
      return ExperimentNotFound(ExperimentName(head.id));
    }
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), stored.experiment));
    if (all) {
      NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(1), stored.experiment));
    }
  }
  FillStates(connection, head, stored);
  return stored;
}

std::vector<v1::Job::State> ReadJobStates(Connection& connection, const ExperimentHead& head) {
  StoredExperiment stored;
  FillStates(connection, head, stored);
  return std::move(stored.states);
}

bool ExperimentExists(Connection& connection, const std::string& name) {
  const absl::StatusOr<std::string> id = ParseExperimentName(name);
  return id.ok() && Query(connection, "SELECT 1 FROM experiments WHERE id = ?", *id).Step();
}

int64_t CountUnfinished(Connection& connection, const std::string& name) {
  Query query(connection,
              "SELECT count(*) FROM jobs INDEXED BY jobs_by_experiment_state "
              "WHERE experiment > '' AND experiment = ? AND state IN (?, ?, ?)",
              name, static_cast<int>(v1::Job::QUEUED), static_cast<int>(v1::Job::STARTING),
              static_cast<int>(v1::Job::RUNNING));
  return query.Step() ? query.Int(0) : 0;
}

absl::StatusOr<std::optional<v1::Experiment>> FindRequestedExperiment(
    Connection& connection,
    const std::string& owner,
    const std::string& request_id,
    const std::string& request_sha256,
    absl::Time now) {
  std::string id;
  bool same_body = false;
  {
    Query query(connection,
                "SELECT experiment_id, body_sha256 FROM experiment_requests "
                "WHERE owner = ? AND request_id = ? AND create_time_us >= ?",
                owner, request_id, absl::ToUnixMicros(now - kRequestLifetime));
    if (!query.Step()) {
      return std::optional<v1::Experiment>();
    }
    id = query.Text(0);
    same_body = query.Bytes(1) == request_sha256;
  }
  const absl::StatusOr<ExperimentHead> head = ReadExperimentHead(connection, id);
  if (absl::IsNotFound(head.status())) {
    return RequestedExperimentDeleted(request_id);
  }
  NORMLAB_RETURN_IF_ERROR(head.status());
  if (!same_body) {
    return ExperimentRequestIdReused(request_id, ExperimentName(id));
  }
  NORMLAB_ASSIGN_OR_RETURN(StoredExperiment stored,
                           ReadExperiment(connection, *head, ExperimentStore::Parts::kAll));
  return std::optional<v1::Experiment>(std::move(stored.experiment));
}

void RememberExperimentRequest(Connection& connection,
                               const ExperimentHead& head,
                               const std::string& request_id,
                               const std::string& request_sha256) {
  // One that is older than it counts may be there still.
  Query(connection,
        "INSERT OR REPLACE INTO experiment_requests(owner, request_id, body_sha256, experiment_id, "
        "create_time_us) VALUES (?, ?, ?, ?, ?)",
        head.owner, request_id, Blob{request_sha256}, head.id, head.create_time_us)
      .Run();
}

absl::StatusOr<std::vector<ExperimentResult>> ReadExperimentResults(
    Connection& connection,
    const ExperimentHead& head,
    const std::vector<std::string>& series,
    int64_t from_position,
    int limit) {
  std::vector<ExperimentResult> results;
  {
    const std::string name = ExperimentName(head.id);
    Query query(connection,
                "SELECT key, state FROM jobs WHERE key >= ? AND key < ? AND experiment = ? "
                "ORDER BY key LIMIT ?",
                head.first_job_key + from_position, head.first_job_key + head.jobs, name, limit);
    while (query.Step()) {
      results.push_back(
          {query.Int(0) - head.first_job_key, static_cast<v1::Job::State>(query.Int(1)),
           std::vector<double>(series.size(), std::numeric_limits<double>::quiet_NaN())});
    }
  }
  absl::flat_hash_map<std::string, size_t> wanted;
  for (size_t i = 0; i < series.size(); ++i) {
    wanted.emplace(series[i], i);
  }
  for (ExperimentResult& result : results) {
    Query query(connection, "SELECT name, last_value FROM series WHERE job_key = ? AND points > 0",
                head.first_job_key + result.position);
    while (query.Step()) {
      if (const auto it = wanted.find(query.Text(0)); it != wanted.end()) {
        result.last_values[it->second] = DoubleFrom(query.Bytes(1));
      }
    }
  }
  return results;
}

}  // namespace normlab::server
