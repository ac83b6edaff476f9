#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "server/store/experiment_store.h"
#include "server/store/queue_entry.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/jobs.pb.h"
#include "normlab/v1/records.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {

struct AttemptKey {
  std::string job_id;
  int32_t number = 0;
};

// What the server knows of an attempt and no client may see. Kept beside the job, written in the
// same transactions.
struct AttemptSecrets {
  std::string secret_sha256;      // 32 bytes
  std::string process_identity;   // common::ProcessIdentity::ToString(); empty before the spawn
  std::string checkpoint_folder;  // last announced, relative to the work folder; empty: none
  int64_t last_report = 0;        // number of the last stored WorkerReport
};

// Conjunction of conditions; unset ones do not restrict.
struct JobFilter {
  std::optional<v1::Job::State> state;
  std::optional<std::string> owner;
  std::optional<std::string> experiment;  // experiments/<id>
  std::vector<std::pair<std::string, std::string>> labels;
  std::optional<absl::Time> created_at_or_after;
  std::optional<absl::Time> created_before;
};

struct JobPage {
  std::vector<v1::Job> jobs;    // newest first, without attempts and resolved_spec
  std::string next_page_token;  // opaque keyset position; empty on the last page
};

struct RecordPage {
  // Consecutive records after the asked sequence, ids as in the job's series table, new_series
  // empty.
  std::vector<v1::RecordBatch> batches;
  int64_t last_sequence = 0;  // last committed record of the job, whether or not it is in `batches`
  bool terminal = false;      // the job is terminal, so last_sequence is final
};

// The points of some consecutive records, by series.
struct PointSlice {
  struct Run {
    uint32_t series = 0;  // id
    std::vector<int64_t> steps;
    std::vector<double> values;
  };
  std::vector<Run> runs;  // in the order of ids; none is empty
  int64_t end = 0;        // last record that was looked at
};

// A log line and the sequence of its record.
struct LogEntry {
  int64_t sequence = 0;
  v1::LogLine line;
};

struct LogPage {
  std::vector<LogEntry> entries;
  int64_t scanned_sequence = 0;  // there are no further lines up to here
  int64_t last_sequence = 0;     // last committed record of the job
  bool terminal = false;         // the job is terminal, so last_sequence is final
};

// A file of a job.
struct StoredArtifact {
  v1::Artifact artifact;
  std::string path;    // relative to the work folder
  bool final = false;  // not a checkpoint, which the worker may have replaced by a newer one
};

// What the scheduler remembers of an owner.
struct OwnerUsage {
  std::string owner;
  double core_seconds = 0;  // decayed to `as_of`
  absl::Time as_of;
};

// First and last point, and the minimum, maximum and first NaN of what lies between.
inline constexpr int32_t kMinMaxPoints = 5;

struct MetricQuery {
  std::string job_id;
  std::vector<std::string> series;  // names; empty: all
  std::optional<int64_t> from_step;
  std::optional<int64_t> to_step;  // inclusive
  int32_t max_points = 0;  // per series, min/max-preserving, at least kMinMaxPoints; 0: every point
};

struct StoreOptions {
  std::string data_dir;  // must exist and be locked by the caller; holds normlab.db
  int64_t max_database_bytes =
      0;                     // beyond it writes answer RESOURCE_EXHAUSTED; 0: only the disk limits
  int read_connections = 8;  // reads beyond so many at once wait
  std::string work_dir;      // below which jobs have their files, removed with them; empty: none
  // Terminal jobs go away so long after their end.
  absl::Duration retention = absl::InfiniteDuration();
  const common::Clock* clock = &common::Clock::Real();
};

// The durable truth: jobs, attempts, records. SQLite in WAL mode with synchronous=FULL, one writer
// thread that commits everything queued as one transaction as soon as it is free (group commit),
// and a pool of read connections.
//
// Thread-safe. Reads block for disk; they must not be made from a gRPC callback thread. Writes
// return at once and answer on the writer thread after the commit (or the refusal); those callbacks
// must not block and must not call blocking members of Store. A write that cannot even be queued
// (after Close, or with 100,000 waiting) is answered on the calling thread, inside the call: hold
// no lock that the callback takes.
class Store {
 public:
  // A change of one job: edits the job as it is inside the transaction and adds records (state
  // changes, log lines) in order. A non-OK status writes nothing and is the answer. Runs on the
  // writer thread; pure but for its captures; may run again should the transaction have to be
  // repeated.
  using Mutator = std::function<absl::Status(v1::Job& job, std::vector<v1::Segment>& records)>;
  using JobCallback = absl::AnyInvocable<void(absl::StatusOr<v1::Job>) &&>;

  struct CreateResult {
    v1::Job job;
    bool created = false;  // false: an earlier call with the same request_id made it
  };
  struct AppendResult {
    v1::Job job;               // as it is after the commit, when `job_changed`
    bool job_changed = false;  // state, attempts, result: not mere progress
    int64_t points = 0;        // new points stored
    int64_t mismatches = 0;    // repeated points that differed from the stored ones
  };

  // Called on the writer thread after each commit that added records to a job, and, with the name of
  // its experiment (experiments/<id>) instead of an id, that changed a job's state. Must not block.
  using CommitListener =
      std::function<void(const std::string& job_id, int64_t last_sequence, bool terminal)>;
  // Seconds a commit took, and how many operations it carried; for monitoring. Called on the writer
  // thread.
  using CommitObserver = std::function<void(double seconds, int operations)>;

  // Opens or creates <data_dir>/normlab.db and brings its schema up to date. FAILED_PRECONDITION:
  // made by a newer version, or on a network file system; DATA_LOSS: corrupt; each says what to do.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);

  virtual ~Store() = default;

  // Experiments: what makes, reads and deletes them.
  virtual ExperimentStore& experiments() = 0;

  // ---- Writes.

  // Stores a new job, whose id must be unused, with its first record (the job's state change to
  // QUEUED). With a request_id: the same (owner, request_id) and hash again answers the stored job;
  // another hash is ALREADY_EXISTS.
  virtual void CreateJob(v1::Job job,
                         std::string request_id,
                         std::string request_sha256,
                         absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&> done) = 0;

  // Applies `mutate` to a job and stores `secrets`, when given, for the job's last attempt: those
  // of its secret_sha256 and process_identity that are not empty; the other fields are the store's
  // own. NOT_FOUND.
  virtual void UpdateJob(std::string job_id,
                         Mutator mutate,
                         std::optional<AttemptSecrets> secrets,
                         JobCallback done) = 0;

  // Ends a job of which something stored cannot be read any more (DATA_LOSS): FAILED with `failure`,
  // without reading or changing more of it than its row. What of the row itself cannot be decoded is
  // lost. NOT_FOUND; FAILED_PRECONDITION: it has ended already.
  virtual void FailDamaged(std::string job_id, v1::Failure failure, JobCallback done) = 0;

  // Stores one worker report whole: points (dropping repeated ones after comparing them bit for
  // bit), log lines, progress, checkpoint announcement, outcome. A report number that is stored
  // already is answered OK and changes nothing. FAILED_PRECONDITION: the attempt is not the job's
  // current, live one (the fence), or a number was left out.
  virtual void AppendReport(AttemptKey attempt,
                            v1::WorkerReport report,
                            absl::AnyInvocable<void(absl::StatusOr<AppendResult>) &&> done) = 0;

  // Makes a job go away for everybody, in one commit; only its request_id stays known. Its records
  // and files are removed afterwards in slices, also across restarts. NOT_FOUND;
  // FAILED_PRECONDITION: it is neither terminal nor paused.
  virtual void DeleteJob(std::string job_id, absl::AnyInvocable<void(absl::Status) &&> done) = 0;

  // Replaces what is remembered of these owners.
  virtual void SaveUsage(std::vector<OwnerUsage> usage,
                         absl::AnyInvocable<void(absl::Status) &&> done) = 0;

  // The same as UpdateJob, waiting for the commit. Not from a callback or gRPC thread.
  absl::StatusOr<v1::Job> UpdateJobAndWait(std::string job_id,
                                           Mutator mutate,
                                           std::optional<AttemptSecrets> secrets = std::nullopt);

  // The same for DeleteJob.
  absl::Status DeleteJobAndWait(std::string job_id);

  virtual void SetCommitListener(CommitListener listener) = 0;
  virtual void SetCommitObserver(CommitObserver observer) = 0;

  // ---- Reads.

  virtual absl::StatusOr<v1::Job> GetJob(const std::string& job_id) = 0;
  // The job, as it is now, that CreateJob made for this (owner, request_id); none: it was not used.
  // ALREADY_EXISTS: it was used with another hash.
  virtual absl::StatusOr<std::optional<v1::Job>> FindRequest(const std::string& owner,
                                                             const std::string& request_id,
                                                             const std::string& request_sha256) = 0;
  // A page may be shorter than `page_size` and have a successor all the same. INVALID_ARGUMENT: a
  // page token that is not of this filter.
  virtual absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                           int page_size,
                                           const std::string& page_token) = 0;
  // Jobs that are STARTING or RUNNING, oldest first. Ids of those whose rows cannot be decoded
  // go to `damaged`; null: they are an error (DATA_LOSS).
  virtual absl::StatusOr<std::vector<v1::Job>> ActiveJobs(
      std::vector<std::string>* damaged = nullptr) = 0;
  // Jobs that are QUEUED, oldest first. No spec is read, so it is not noticed either when a job's
  // row cannot be decoded.
  virtual absl::StatusOr<std::vector<QueueEntry>> QueuedJobs() = 0;
  // What an owner's QUEUED and PAUSED jobs take in the database, with their specs; in time
  // proportional to their number, some milliseconds at most.
  virtual absl::StatusOr<int64_t> QueuedBytes(const std::string& owner) = 0;
  virtual absl::StatusOr<AttemptSecrets> GetAttemptSecrets(const AttemptKey& attempt) = 0;
  // Records after `after_sequence`, about `max_bytes` at most but at least one batch when there is
  // any. Trims batches into which after_sequence falls. OUT_OF_RANGE: after_sequence is beyond the
  // last record; the message names it.
  virtual absl::StatusOr<RecordPage> ReadRecords(const std::string& job_id,
                                                 int64_t after_sequence,
                                                 int64_t max_bytes) = 0;
  // Points from `from_step` to `to_step` of the records in (after_sequence, until_sequence], of the
  // series in `series` (ids; empty: all), from about `max_bytes` of records: less than asked for
  // when slice.end < until_sequence. NOT_FOUND.
  virtual absl::StatusOr<PointSlice> ReadPoints(const std::string& job_id,
                                                int64_t after_sequence,
                                                int64_t until_sequence,
                                                const std::vector<uint32_t>& series,
                                                int64_t from_step,
                                                int64_t to_step,
                                                int64_t max_bytes) = 0;
  // Log lines after `after_sequence`, from about `max_bytes` of records. OUT_OF_RANGE as above.
  virtual absl::StatusOr<LogPage> ReadLogs(const std::string& job_id,
                                           int64_t after_sequence,
                                           int64_t max_bytes) = 0;
  // Files of a job, oldest first. NOT_FOUND.
  virtual absl::StatusOr<std::vector<StoredArtifact>> ListArtifacts(const std::string& job_id) = 0;
  virtual absl::StatusOr<std::vector<OwnerUsage>> LoadUsage() = 0;
  virtual absl::StatusOr<std::vector<v1::Series>> ReadSeries(const std::string& job_id) = 0;
  // Calls `sink` with runs of points of one series in step order, series after series. NOT_FOUND:
  // the job, or a named series that it does not have (naming those it has). `sink` returns false to
  // stop.
  virtual absl::Status ReadMetrics(
      const MetricQuery& query,
      const std::function<bool(const std::string& series,
                               absl::Span<const int64_t> steps,
                               absl::Span<const double> values)>& sink) = 0;
  // Jobs per state, terminal ones included. Cheap: kept by the writer.
  virtual std::vector<std::pair<v1::Job::State, int64_t>> CountByState() = 0;

  // Jobs of one owner in one state. Cheap as well.
  virtual int64_t CountJobs(const std::string& owner, v1::Job::State state) = 0;

  // Does at once, on this thread, what is otherwise done every minute and after a deletion: removes
  // what deleted jobs left, forgets request ids older than a week, deletes terminal jobs beyond the
  // retention, gives unused space back. Answers what failed.
  virtual absl::Status Maintain() = 0;

  // OK, or why the last commit failed (disk full, I/O error). Recovers by itself: while it is not
  // OK the writer tries again every second, reads go on, and writes answer with this error.
  // DATA_LOSS: a read or write came across something damaged in the last minute; what is whole goes
  // on being served, but nobody should add to it.
  virtual absl::Status Health() = 0;

  // Waits until everything queued is committed, then closes the database (checkpointing the WAL).
  // Further writes answer UNAVAILABLE.
  virtual void Close() = 0;
};

}  // namespace normlab::server
