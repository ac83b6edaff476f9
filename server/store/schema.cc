#include "server/store/schema.h"

#include <sys/stat.h>

#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/store/job_rows.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// "NLAB": marks the file as ours.
constexpr int64_t kApplicationId = 0x4e4c4142;
// Larger files are not read through at every start.
constexpr int64_t kMaxCheckedBytes = int64_t{64} << 20;
constexpr int kCheckpointBusyTimeoutMs = 200;

// One step of the schema: statements, then what only code can fill in (null: nothing).
struct Migration {
  const char* sql;
  absl::Status (*fill)(Connection& connection);
};

absl::Status FillEndTimes(Connection& connection);
absl::Status FillQueue(Connection& connection);

// Entry i brings version i to i + 1. Entries are never changed once released, only appended.
const Migration kMigrations[] = {
    {R"sql(
-- Jobs by an internal key. `summary` is a serialized v1::Job without what changes often or is large;
-- `details` one with only its resolved_spec and attempts.
CREATE TABLE jobs (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  state INTEGER NOT NULL,
  create_time_us INTEGER NOT NULL,
  summary BLOB NOT NULL,
  details BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_by_time ON jobs(create_time_us);
CREATE INDEX jobs_by_state ON jobs(state, create_time_us);
CREATE INDEX jobs_by_owner ON jobs(owner, create_time_us);
CREATE INDEX jobs_by_owner_state ON jobs(owner, state, create_time_us);

-- What every report changes, apart from the large row. `progress` is a v1::Progress.
CREATE TABLE progress (
  job_key INTEGER PRIMARY KEY REFERENCES jobs(key) ON DELETE CASCADE,
  last_sequence INTEGER NOT NULL,
  progress BLOB NOT NULL
) STRICT;

CREATE TABLE labels (
  label TEXT NOT NULL,
  value TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  PRIMARY KEY (label, value, create_time_us, job_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_by_job ON labels(job_key);

CREATE TABLE requests (
  owner TEXT NOT NULL,
  request_id TEXT NOT NULL,
  body_sha256 BLOB NOT NULL,
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  create_time_us INTEGER NOT NULL,
  PRIMARY KEY (owner, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_job ON requests(job_key);

-- What no client may see of an attempt.
CREATE TABLE attempts (
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  secret_sha256 BLOB NOT NULL,
  process_identity TEXT NOT NULL,
  checkpoint_folder TEXT NOT NULL,
  last_report INTEGER NOT NULL,
  PRIMARY KEY (job_key, number)
) STRICT, WITHOUT ROWID;

-- The job's table of series, with where each one ends.
CREATE TABLE series (
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  id INTEGER NOT NULL,
  name TEXT NOT NULL,
  points INTEGER NOT NULL,
  nans INTEGER NOT NULL,
  last_step INTEGER NOT NULL,
  last_value BLOB NOT NULL,
  PRIMARY KEY (job_key, id)
) STRICT, WITHOUT ROWID;

-- The series ids that an attempt's reports use, in terms of the job's.
CREATE TABLE attempt_series (
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  local_id INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  PRIMARY KEY (job_key, attempt, local_id)
) STRICT, WITHOUT ROWID;

-- Chunks of records: `payload` is a v1::RecordBatch with the job's series ids. Steps are the least
-- and the greatest of the chunk's points, NULL when it has none. The small chunks at a job's end
-- (sealed = 0) are merged; sequences never change.
CREATE TABLE records (
  chunk INTEGER PRIMARY KEY,
  job_key INTEGER NOT NULL REFERENCES jobs(key) ON DELETE CASCADE,
  last_sequence INTEGER NOT NULL,
  first_sequence INTEGER NOT NULL,
  first_step INTEGER,
  last_step INTEGER,
  sealed INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_by_sequence ON records(job_key, last_sequence);
CREATE INDEX records_by_step ON records(job_key, last_step, first_step);

-- Written and emptied again to see whether the disk has room.
CREATE TABLE probe (
  id INTEGER PRIMARY KEY,
  filler BLOB NOT NULL
) STRICT;
)sql",
     nullptr},
    {R"sql(
ALTER TABLE jobs ADD COLUMN experiment TEXT NOT NULL DEFAULT '';
-- NULL while the job is not terminal.
ALTER TABLE jobs ADD COLUMN end_time_us INTEGER;
CREATE INDEX jobs_by_experiment ON jobs(experiment, create_time_us) WHERE experiment > '';
CREATE INDEX jobs_by_end ON jobs(end_time_us) WHERE end_time_us IS NOT NULL;
CREATE INDEX requests_by_time ON requests(create_time_us);

-- Jobs per owner and state, so that a start need not count them.
CREATE TABLE job_counts (
  owner TEXT NOT NULL,
  state INTEGER NOT NULL,
  jobs INTEGER NOT NULL,
  PRIMARY KEY (owner, state)
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts(owner, state, jobs)
  SELECT owner, state, count(*) FROM jobs GROUP BY owner, state;

-- Log lines in a chunk; a chunk of an older version may have some.
ALTER TABLE records ADD COLUMN logs INTEGER NOT NULL DEFAULT 1;
CREATE INDEX records_with_logs ON records(job_key, last_sequence) WHERE logs > 0;

-- What thinning a curve has to know of every sealed chunk, apart from its large row (see
-- chunk_summary.h). A NULL summary: look into the chunk.
CREATE TABLE chunk_summaries (
  job_key INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL,
  first_sequence INTEGER NOT NULL,
  first_step INTEGER,
  last_step INTEGER,
  summary BLOB,
  PRIMARY KEY (job_key, last_sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO chunk_summaries
  SELECT job_key, last_sequence, first_sequence, first_step, last_step, NULL
  FROM records WHERE sealed ORDER BY job_key, last_sequence;

-- Points of a resumed attempt's series that repeated stored ones so far; -1: it has gone beyond
-- what was stored when it began.
ALTER TABLE attempt_series ADD COLUMN repeated INTEGER NOT NULL DEFAULT -1;

-- Jobs that are gone for everybody, whose records and files are still being removed.
CREATE TABLE deletions (
  job_key INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL
) STRICT;

-- What the scheduler remembers of each owner: core-seconds, decayed to that time.
CREATE TABLE owner_usage (
  owner TEXT PRIMARY KEY,
  core_seconds REAL NOT NULL,
  as_of_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Files below the work folder. `id` counts from 1 within the job.
CREATE TABLE artifacts (
  job_key INTEGER NOT NULL,
  id INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  step INTEGER NOT NULL,
  final INTEGER NOT NULL,
  path TEXT NOT NULL,
  file_name TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  PRIMARY KEY (job_key, id)
) STRICT, WITHOUT ROWID;
)sql",
     FillEndTimes},
    {R"sql(
-- So that a list of one owner's jobs walks no other's rows, whatever it is filtered by.
ALTER TABLE labels ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE labels SET owner = (SELECT owner FROM jobs WHERE key = job_key);
CREATE INDEX labels_by_owner ON labels(owner, label, value, create_time_us, job_key);
CREATE INDEX jobs_by_owner_experiment ON jobs(owner, experiment, create_time_us)
  WHERE experiment > '';
)sql",
     nullptr},
    {R"sql(
-- Experiments. Their jobs have `jobs` consecutive keys from first_job_key on, cell by cell and seed
-- by seed; the state of an experiment is that of its jobs. `summary` is a v1::Experiment without
-- cells, counts and end time; `cells` one with only its cells.
CREATE TABLE experiments (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  first_job_key INTEGER NOT NULL,
  jobs INTEGER NOT NULL,
  summary BLOB NOT NULL,
  cells BLOB NOT NULL
) STRICT;
CREATE INDEX experiments_by_time ON experiments(create_time_us);
CREATE INDEX experiments_by_owner ON experiments(owner, create_time_us);

-- Also of experiments that were deleted since.
CREATE TABLE experiment_requests (
  owner TEXT NOT NULL,
  request_id TEXT NOT NULL,
  body_sha256 BLOB NOT NULL,
  experiment_id TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  PRIMARY KEY (owner, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX experiment_requests_by_time ON experiment_requests(create_time_us);

-- Experiments that are gone, some of whose jobs are there still.
CREATE TABLE experiment_deletions (
  name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Answers how an experiment stands without looking at the jobs' rows.
CREATE INDEX jobs_by_experiment_state ON jobs(experiment, state, end_time_us) WHERE experiment > '';
)sql",
     nullptr},
    {R"sql(
-- What the scheduler has to know of a QUEUED job (see queue_entry.h; of others it means little), so
-- that a start need not read the specs. Times in microseconds; last_failure_us 0: none.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN cores INTEGER NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN queue_time_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN waited_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN last_failure_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN spec_bytes INTEGER NOT NULL DEFAULT 0;
-- Has all of it, also what it is made for, so that the large rows are not touched. 1 is QUEUED.
CREATE INDEX jobs_in_queue ON jobs(owner, create_time_us, id, priority, cores, memory_bytes,
  queue_time_us, waited_us, last_failure_us, spec_bytes, state) WHERE state = 1;
-- What an owner keeps beside the queue. 8 is PAUSED.
CREATE INDEX jobs_paused ON jobs(owner, spec_bytes, state) WHERE state = 8;
)sql",
     FillQueue},
};

// Jobs that were terminal before the column was there.
absl::Status FillEndTimes(Connection& connection) {
  std::vector<std::pair<int64_t, int64_t>> ends;
  {
    Query query(connection, "SELECT key, summary FROM jobs");
    while (query.Step()) {
      v1::Job job;
      NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(1), job));
      if (IsTerminal(job.state())) {
        ends.emplace_back(query.Int(0), *EndTimeMicros(job));
      }
    }
  }
  for (const auto& [key, end] : ends) {
    Query(connection, "UPDATE jobs SET end_time_us = ? WHERE key = ?", end, key).Run();
  }
  return absl::OkStatus();
}

// Of jobs that were queued or paused before the columns were there; one at a time, as there may be many.
absl::Status FillQueue(Connection& connection) {
  std::vector<int64_t> keys;
  {
    Query query(connection, "SELECT key FROM jobs WHERE state IN (1, 8)");
    while (query.Step()) {
      keys.push_back(query.Int(0));
    }
  }
  for (const int64_t key : keys) {
    v1::Job job;
    {
      Query query(connection, "SELECT summary, details FROM jobs WHERE key = ?", key);
      // One that cannot be read is found out when its turn comes.
      if (!query.Step() || !ParseRow(connection, query.Bytes(0), job).ok() ||
          !ParseRow(connection, query.Bytes(1), job).ok()) {
        continue;
      }
    }
    const QueueEntry entry = QueueEntryOf("", job);
    const int64_t last_failure =
        entry.last_failure == absl::InfinitePast() ? 0 : absl::ToUnixMicros(entry.last_failure);
    Query(connection,
          "UPDATE jobs SET priority = ?, cores = ?, memory_bytes = ?, queue_time_us = ?, "
          "waited_us = ?, last_failure_us = ?, spec_bytes = length(summary) + length(details) "
          "WHERE key = ?",
          entry.priority, entry.cores, entry.memory_bytes, absl::ToUnixMicros(entry.queue_time),
          absl::ToInt64Microseconds(entry.waited), last_failure, key)
        .Run();
  }
  return absl::OkStatus();
}

int64_t PragmaValue(Connection& connection, const char* sql) {
  return connection.database().execAndGet(sql).getInt64();
}

absl::Status CheckAndMigrate(Connection& connection) {
  const std::string& path = connection.path();
  const int64_t version = PragmaValue(connection, "PRAGMA user_version");
  const int64_t application = PragmaValue(connection, "PRAGMA application_id");
  const int64_t tables = PragmaValue(connection, "SELECT count(*) FROM sqlite_schema");
  const bool empty = version == 0 && application == 0 && tables == 0;
  if (!empty && application != kApplicationId) {
    return UnsupportedDatabase(
        path, "it was made by another program; choose another folder with --data_dir");
  }
  if (version > SchemaVersion()) {
    return UnsupportedDatabase(
        path, absl::StrCat("it has schema version ", version,
                           " and this normlabd knows versions up to ", SchemaVersion(),
                           "; run the newer normlabd that made it, or choose another --data_dir"));
  }
  for (int64_t from = version; from < SchemaVersion(); ++from) {
    if (!empty) {
      // Of a large database this takes its time, in which nothing else is heard of the server.
      spdlog::info("bringing the database {} from schema {} to {}", path, from, from + 1);
    }
    SQLite::Transaction transaction(connection.database(), SQLite::TransactionBehavior::IMMEDIATE);
    connection.Execute(kMigrations[from].sql);
    if (kMigrations[from].fill != nullptr) {
      NORMLAB_RETURN_IF_ERROR(kMigrations[from].fill(connection));
    }
    connection.Execute(absl::StrCat("PRAGMA application_id = ", kApplicationId).c_str());
    connection.Execute(absl::StrCat("PRAGMA user_version = ", from + 1).c_str());
    transaction.commit();
  }
  return absl::OkStatus();
}

absl::Status CheckIntegrity(Connection& connection) {
  struct stat file = {};
  if (stat(connection.path().c_str(), &file) != 0 || file.st_size > kMaxCheckedBytes) {
    return absl::OkStatus();
  }
  const std::string verdict = connection.database().execAndGet("PRAGMA quick_check(1)").getString();
  return verdict == "ok" ? absl::OkStatus() : CorruptDatabase(connection.path(), verdict);
}

}  // namespace

int SchemaVersion() {
  return static_cast<int>(std::size(kMigrations));
}

absl::StatusOr<std::unique_ptr<Connection>> OpenForWriting(const std::string& path,
                                                           int64_t max_bytes) {
  return CatchSqlite(path, [&]() -> absl::StatusOr<std::unique_ptr<Connection>> {
    auto connection = std::make_unique<Connection>(path, Connection::Mode::kCreate, kBusyTimeoutMs);
    // Has to come before the first page is written.
    connection->Execute("PRAGMA auto_vacuum = INCREMENTAL");
    const std::string mode =
        connection->database().execAndGet("PRAGMA journal_mode = WAL").getString();
    if (mode != "wal") {
      return UnsupportedDatabase(
          path,
          "its file system does not support write-ahead logging (shared memory maps); choose "
          "a folder on a local disk with --data_dir");
    }
    // Foreign keys only say what refers to what: cascading would delete a large job in one commit.
    connection->Execute(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 0;"
        "PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;"
        "PRAGMA cache_size = -16384");
    NORMLAB_RETURN_IF_ERROR(CheckIntegrity(*connection));
    NORMLAB_RETURN_IF_ERROR(CheckAndMigrate(*connection));
    if (max_bytes > 0) {
      const int64_t page_size = PragmaValue(*connection, "PRAGMA page_size");
      connection->database().execAndGet(
          absl::StrCat("PRAGMA max_page_count = ", max_bytes / page_size));
    }
    return connection;
  });
}

std::unique_ptr<Connection> OpenForReading(const std::string& path) {
  auto connection = std::make_unique<Connection>(path, Connection::Mode::kReadOnly, kBusyTimeoutMs);
  connection->Execute(
      "PRAGMA query_only = ON; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY");
  return connection;
}

std::unique_ptr<Connection> OpenForCheckpoints(const std::string& path) {
  auto connection =
      std::make_unique<Connection>(path, Connection::Mode::kReadWrite, kCheckpointBusyTimeoutMs);
  connection->Execute(
      "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
      "PRAGMA journal_size_limit = 67108864");
  return connection;
}

}  // namespace normlab::server
