#include "server/store/deletion.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

constexpr int kExpiredPerCommit = 50;
constexpr int kRequestsPerCommit = 1000;
// Rows of small tables that make up a slice.
constexpr int kRowsPerSlice = 10'000;
// 16 MB of 4 KiB pages may lie idle.
constexpr int64_t kIdlePages = 4096;
constexpr int64_t kPagesPerCommit = 512;

constexpr const char* kEmptyExperiments =
    "SELECT key FROM experiments INDEXED BY experiments_by_time WHERE create_time_us < ? AND NOT "
    "EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_by_experiment_state WHERE experiment > '' AND "
    "experiment = 'experiments/' || experiments.id)";

int64_t UnusedPages(Connection& connection) {
  Query query(connection, "PRAGMA freelist_count");
  return query.Step() ? query.Int(0) : 0;
}

}  // namespace

void MarkDeleted(WriteContext& context, const DoomedJob& job, Effects& effects) {
  Connection& connection = context.connection;
  Query(connection, "INSERT INTO deletions(job_key, job_id) VALUES (?, ?)", job.key, job.id).Run();
  // Few rows each. Its request_id stays: a retry must not make the job anew.
  Query(connection, "DELETE FROM labels WHERE job_key = ?", job.key).Run();
  Query(connection, "DELETE FROM attempts WHERE job_key = ?", job.key).Run();
  Query(connection, "DELETE FROM progress WHERE job_key = ?", job.key).Run();
  Query(connection, "DELETE FROM jobs WHERE key = ?", job.key).Run();
  --effects.state_deltas[{job.owner, static_cast<int>(job.state)}];
  effects.published[job.id] = {0, /*terminal=*/true};
  if (!job.experiment.empty()) {
    effects.published[job.experiment] = {0, /*terminal=*/false};
  }
  effects.deleted_job = true;
  context.live_jobs.Forget(job.id);
}

void MarkExperimentDeleted(WriteContext& context,
                           int64_t key,
                           const std::string& name,
                           Effects& effects) {
  Connection& connection = context.connection;
  Query(connection, "INSERT OR IGNORE INTO experiment_deletions(name) VALUES (?)", name).Run();
  // Its request_id stays: a retry must not make the experiment anew.
  Query(connection, "DELETE FROM experiments WHERE key = ?", key).Run();
  effects.published[name] = {0, /*terminal=*/true};
  effects.deleted_job = true;
}

std::vector<std::string> PendingExperimentDeletions(Connection& connection) {
  std::vector<std::string> names;
  Query query(connection, "SELECT name FROM experiment_deletions ORDER BY name");
  while (query.Step()) {
    names.push_back(query.Text(0));
  }
  return names;
}

bool MarkJobsOfExperiment(WriteContext& context, const std::string& name, Effects& effects) {
  std::vector<DoomedJob> doomed;
  {
    Query query(context.connection,
                "SELECT key, id, owner, state FROM jobs INDEXED BY jobs_by_experiment_state "
                "WHERE experiment > '' AND experiment = ? LIMIT ?",
                name, kExpiredPerCommit);
    while (query.Step()) {
      doomed.push_back(
          {query.Int(0), query.Text(1), query.Text(2), static_cast<v1::Job::State>(query.Int(3))});
    }
  }
  for (const DoomedJob& job : doomed) {
    MarkDeleted(context, job, effects);
  }
  if (doomed.empty()) {
    Query(context.connection, "DELETE FROM experiment_deletions WHERE name = ?", name).Run();
  }
  return !doomed.empty();
}

bool DeleteEmptyExperiments(WriteContext& context, absl::Time created_before) {
  return Query(
             context.connection,
             absl::StrCat("DELETE FROM experiments WHERE key IN (", kEmptyExperiments, " LIMIT ?)"),
             absl::ToUnixMicros(created_before), kExpiredPerCommit)
             .Run() > 0;
}

std::vector<Deletion> PendingDeletions(Connection& connection) {
  std::vector<Deletion> pending;
  Query query(connection, "SELECT job_key, job_id FROM deletions ORDER BY job_key");
  while (query.Step()) {
    pending.push_back({query.Int(0), query.Text(1)});
  }
  return pending;
}

bool DeleteSlice(Connection& connection, int64_t job_key) {
  int64_t bytes = 0;
  int64_t last_sequence = -1;
  {
    // The length of a large value stands in its row's head: its pages are not read for it.
    Query query(connection,
                "SELECT last_sequence, length(payload) FROM records INDEXED BY records_by_sequence "
                "WHERE job_key = ? ORDER BY last_sequence",
                job_key);
    while (bytes < kDeleteSliceBytes && query.Step()) {
      last_sequence = query.Int(0);
      bytes += query.Int(1);
    }
  }
  if (last_sequence >= 0) {
    Query(connection, "DELETE FROM records WHERE job_key = ? AND last_sequence <= ?", job_key,
          last_sequence)
        .Run();
    Query(connection, "DELETE FROM chunk_summaries WHERE job_key = ? AND last_sequence <= ?",
          job_key, last_sequence)
        .Run();
    return true;
  }
  for (const char* sql :
       {"DELETE FROM series WHERE job_key = ?1 AND id IN "
        "(SELECT id FROM series WHERE job_key = ?1 ORDER BY id LIMIT ?2)",
        "DELETE FROM attempt_series WHERE job_key = ?1 AND (attempt, local_id) IN "
        "(SELECT attempt, local_id FROM attempt_series WHERE job_key = ?1 LIMIT ?2)",
        "DELETE FROM artifacts WHERE job_key = ?1 AND id IN "
        "(SELECT id FROM artifacts WHERE job_key = ?1 LIMIT ?2)"}) {
    if (Query(connection, sql, job_key, kRowsPerSlice).Run() > 0) {
      return true;
    }
  }
  return false;
}

void FinishDeletion(Connection& connection, int64_t job_key) {
  Query(connection, "DELETE FROM deletions WHERE job_key = ?", job_key).Run();
}

bool MarkExpired(WriteContext& context, absl::Time ended_before, Effects& effects) {
  std::vector<DoomedJob> doomed;
  {
    Query query(context.connection,
                "SELECT key, id, owner, state FROM jobs INDEXED BY jobs_by_end "
                "WHERE end_time_us IS NOT NULL AND end_time_us < ? ORDER BY end_time_us LIMIT ?",
                absl::ToUnixMicros(ended_before), kExpiredPerCommit);
    while (query.Step()) {
      doomed.push_back(
          {query.Int(0), query.Text(1), query.Text(2), static_cast<v1::Job::State>(query.Int(3))});
    }
  }
  for (const DoomedJob& job : doomed) {
    MarkDeleted(context, job, effects);
  }
  return !doomed.empty();
}

bool ForgetRequests(Connection& connection, absl::Time before) {
  bool forgot = false;
  for (const char* table : {"requests", "experiment_requests"}) {
    forgot |=
        Query(connection,
              absl::StrCat("DELETE FROM ", table,
                           " WHERE (owner, request_id) IN (SELECT owner, request_id FROM ", table,
                           " INDEXED BY ", table, "_by_time WHERE create_time_us < ? LIMIT ?)"),
              absl::ToUnixMicros(before), kRequestsPerCommit)
            .Run() > 0;
  }
  return forgot;
}

bool ShrinkFile(Connection& connection) {
  const int64_t unused = UnusedPages(connection);
  if (unused <= kIdlePages) {
    return false;
  }
  // Every step frees one page.
  const int64_t pages = std::min(unused - kIdlePages, kPagesPerCommit);
  Query query(connection, "PRAGMA incremental_vacuum(" + std::to_string(pages) + ")");
  while (query.Step()) {
  }
  return true;
}

Housekeeping FindHousekeeping(Connection& connection,
                              absl::Time requests_before,
                              std::optional<absl::Time> ended_before) {
  Housekeeping work;
  for (const char* table : {"requests", "experiment_requests"}) {
    Query query(connection,
                absl::StrCat("SELECT 1 FROM ", table, " INDEXED BY ", table,
                             "_by_time WHERE create_time_us < ? LIMIT 1"),
                absl::ToUnixMicros(requests_before));
    work.requests |= query.Step();
  }
  if (ended_before.has_value()) {
    Query query(connection,
                "SELECT 1 FROM jobs INDEXED BY jobs_by_end "
                "WHERE end_time_us IS NOT NULL AND end_time_us < ? LIMIT 1",
                absl::ToUnixMicros(*ended_before));
    work.expired_jobs = query.Step();
    Query empty(connection, absl::StrCat(kEmptyExperiments, " LIMIT 1"),
                absl::ToUnixMicros(*ended_before));
    work.empty_experiments = empty.Step();
  }
  {
    Query query(connection, "SELECT 1 FROM experiment_deletions LIMIT 1");
    work.experiment_deletions = query.Step();
  }
  {
    Query query(connection, "SELECT 1 FROM deletions LIMIT 1");
    work.deletions = query.Step();
  }
  work.unused_pages = UnusedPages(connection) > kIdlePages;
  return work;
}

}  // namespace normlab::server
