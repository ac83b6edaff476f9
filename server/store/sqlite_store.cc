#include <sqlite3.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/store/and_wait.h"
#include "server/store/artifact_rows.h"
#include "server/store/checkpointer.h"
#include "server/store/filesystem.h"
#include "server/store/janitor.h"
#include "server/store/job_counts.h"
#include "server/store/job_rows.h"
#include "server/store/list_jobs.h"
#include "server/store/owner_usage.h"
#include "server/store/queue_rows.h"
#include "server/store/read_metrics.h"
#include "server/store/read_points.h"
#include "server/store/read_pool.h"
#include "server/store/record_log.h"
#include "server/store/schema.h"
#include "server/store/sqlite_experiments.h"
#include "server/store/store.h"
#include "server/store/write_op.h"
#include "server/store/writer.h"

namespace normlab::server {
namespace {

class SqliteStore : public Store {
 public:
  SqliteStore(const StoreOptions& options,
              const std::string& path,
              std::unique_ptr<Connection> writing,
              std::unique_ptr<Connection> checkpointing,
              JobCounts counts)
      : clock_(*options.clock),
        counts_(std::move(counts)),
        reads_(path,
               options.read_connections,
               [this](const absl::Status& damage) { writer_->NoteDamage(damage); }),
        checkpointer_(std::make_unique<Checkpointer>(std::move(checkpointing))),
        experiments_(
            reads_,
            [this](std::unique_ptr<WriteOp> op) { writer_->Submit(std::move(op)); },
            clock_) {
    // Replaces SQLite's own checkpoint inside the commit.
    sqlite3_wal_hook(
        writing->database().getHandle(),
        [](void* checkpointer, sqlite3*, const char*, int pages) {
          static_cast<Checkpointer*>(checkpointer)->LogGrew(pages);
          return SQLITE_OK;
        },
        checkpointer_.get());
    writer_ =
        std::make_unique<Writer>(std::move(writing), *options.clock,
                                 [this](const Effects& effects, double seconds, int operations) {
                                   AfterCommit(effects, seconds, operations);
                                 });
    janitor_ = std::make_unique<Janitor>(
        JanitorOptions{
            .work_dir = options.work_dir,
            .retention = options.retention,
            .clock = options.clock,
            .submit = [this](std::unique_ptr<WriteOp> op) { writer_->Submit(std::move(op)); }},
        reads_);
    janitor_->Start();  // its commits wake it through janitor_
  }

  ~SqliteStore() override { Close(); }

  ExperimentStore& experiments() override { return experiments_; }

  void CreateJob(v1::Job job,
                 std::string request_id,
                 std::string request_sha256,
                 absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&> done) override {
    writer_->Submit(MakeCreateOp(std::move(job), std::move(request_id), std::move(request_sha256),
                                 std::move(done)));
  }

  void UpdateJob(std::string job_id,
                 Mutator mutate,
                 std::optional<AttemptSecrets> secrets,
                 JobCallback done) override {
    writer_->Submit(
        MakeUpdateOp(std::move(job_id), std::move(mutate), std::move(secrets), std::move(done)));
  }

  void FailDamaged(std::string job_id, v1::Failure failure, JobCallback done) override {
    writer_->Submit(MakeFailDamagedOp(std::move(job_id), std::move(failure), std::move(done)));
  }

  void AppendReport(AttemptKey attempt,
                    v1::WorkerReport report,
                    absl::AnyInvocable<void(absl::StatusOr<AppendResult>) &&> done) override {
    writer_->Submit(MakeAppendOp(std::move(attempt), std::move(report), std::move(done)));
  }

  void DeleteJob(std::string job_id, absl::AnyInvocable<void(absl::Status) &&> done) override {
    writer_->Submit(MakeDeleteOp(std::move(job_id), std::move(done)));
  }

  void SaveUsage(std::vector<OwnerUsage> usage,
                 absl::AnyInvocable<void(absl::Status) &&> done) override {
    writer_->Submit(MakeFunctionOp(
        [usage = std::move(usage)](WriteContext& context, Effects&) {
          WriteOwnerUsage(context.connection, usage);
          return absl::OkStatus();
        },
        std::move(done)));
  }

  void SetCommitListener(CommitListener listener) override {
    absl::MutexLock lock(&mu_);
    listener_ = std::make_shared<const CommitListener>(std::move(listener));
  }

  void SetCommitObserver(CommitObserver observer) override {
    absl::MutexLock lock(&mu_);
    observer_ = std::make_shared<const CommitObserver>(std::move(observer));
  }

  absl::StatusOr<v1::Job> GetJob(const std::string& job_id) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<v1::Job> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      return ReadJobByKey(connection, head.key, JobParts::kAll);
    });
  }

  absl::StatusOr<std::optional<v1::Job>> FindRequest(const std::string& owner,
                                                     const std::string& request_id,
                                                     const std::string& request_sha256) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::optional<v1::Job>> {
      ReadTransaction transaction(connection);
      return FindRequestedJob(connection, owner, request_id, request_sha256, clock_.Now());
    });
  }

  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   int page_size,
                                   const std::string& page_token) override {
    return reads_.Read([&](Connection& connection) {
      ReadTransaction transaction(connection);
      return ListJobPage(connection, filter, page_size, page_token);
    });
  }

  absl::StatusOr<std::vector<QueueEntry>> QueuedJobs() override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<QueueEntry>> {
      return ReadQueue(connection);
    });
  }

  absl::StatusOr<int64_t> QueuedBytes(const std::string& owner) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<int64_t> {
      return ReadQueuedBytes(connection, owner);
    });
  }

  absl::StatusOr<std::vector<v1::Job>> ActiveJobs(std::vector<std::string>* damaged) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<v1::Job>> {
      ReadTransaction transaction(connection);
      std::vector<std::pair<int64_t, std::string>> keys;
      {
        Query query(connection,
                    "SELECT key, id FROM jobs WHERE state IN (?, ?) ORDER BY create_time_us, key",
                    static_cast<int>(v1::Job::STARTING), static_cast<int>(v1::Job::RUNNING));
        while (query.Step()) {
          keys.emplace_back(query.Int(0), query.Text(1));
        }
      }
      std::vector<v1::Job> jobs;
      jobs.reserve(keys.size());
      for (const auto& [key, id] : keys) {
        absl::StatusOr<v1::Job> job = ReadJobByKey(connection, key, JobParts::kAll);
        if (absl::IsDataLoss(job.status()) && damaged != nullptr) {
          damaged->push_back(id);
          continue;
        }
        NORMLAB_RETURN_IF_ERROR(job.status());
        jobs.push_back(*std::move(job));
      }
      return jobs;
    });
  }

  absl::StatusOr<AttemptSecrets> GetAttemptSecrets(const AttemptKey& attempt) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<AttemptSecrets> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, attempt.job_id));
      return ReadAttemptSecrets(connection, head.key, attempt.number);
    });
  }

  absl::StatusOr<RecordPage> ReadRecords(const std::string& job_id,
                                         int64_t after_sequence,
                                         int64_t max_bytes) override {
    if (after_sequence < 0) {
      return InvalidArgument("after_sequence", "is negative; give 0 to read from the start");
    }
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<RecordPage> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      if (after_sequence > head.last_sequence) {
        return SequenceOutOfRange(after_sequence, head.last_sequence);
      }
      RecordPage page;
      page.last_sequence = head.last_sequence;
      page.terminal = IsTerminal(head.state);
      NORMLAB_ASSIGN_OR_RETURN(page.batches,
                               ReadBatches(connection, head.key, after_sequence, max_bytes));
      return page;
    });
  }

  absl::StatusOr<PointSlice> ReadPoints(const std::string& job_id,
                                        int64_t after_sequence,
                                        int64_t until_sequence,
                                        const std::vector<uint32_t>& series,
                                        int64_t from_step,
                                        int64_t to_step,
                                        int64_t max_bytes) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<PointSlice> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      return ReadPointSlice(connection, head.key,
                            {after_sequence, std::min(until_sequence, head.last_sequence)}, series,
                            {from_step, to_step}, max_bytes);
    });
  }

  absl::StatusOr<LogPage> ReadLogs(const std::string& job_id,
                                   int64_t after_sequence,
                                   int64_t max_bytes) override {
    if (after_sequence < 0) {
      return InvalidArgument("after_sequence", "is negative; give 0 to read from the start");
    }
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<LogPage> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      if (after_sequence > head.last_sequence) {
        return SequenceOutOfRange(after_sequence, head.last_sequence);
      }
      LogPage page;
      page.last_sequence = head.last_sequence;
      page.scanned_sequence = head.last_sequence;
      page.terminal = IsTerminal(head.state);
      NORMLAB_ASSIGN_OR_RETURN(page.entries, ReadLogChunks(connection, head.key, after_sequence,
                                                           max_bytes, page.scanned_sequence));
      return page;
    });
  }

  absl::StatusOr<std::vector<StoredArtifact>> ListArtifacts(const std::string& job_id) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<StoredArtifact>> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      return ReadArtifacts(connection, head.key, job_id);
    });
  }

  absl::StatusOr<std::vector<OwnerUsage>> LoadUsage() override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<OwnerUsage>> {
      return ReadOwnerUsage(connection);
    });
  }

  absl::StatusOr<std::vector<v1::Series>> ReadSeries(const std::string& job_id) override {
    return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<v1::Series>> {
      ReadTransaction transaction(connection);
      NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
      std::vector<v1::Series> series;
      for (SeriesTail& tail : ReadSeriesTails(connection, head.key)) {
        series.push_back(std::move(tail.series));
      }
      return series;
    });
  }

  absl::Status ReadMetrics(
      const MetricQuery& query,
      const std::function<bool(const std::string& series,
                               absl::Span<const int64_t> steps,
                               absl::Span<const double> values)>& sink) override {
    return ReadMetricPoints(reads_, query, sink);
  }

  std::vector<std::pair<v1::Job::State, int64_t>> CountByState() override {
    absl::MutexLock lock(&mu_);
    absl::btree_map<int, int64_t> by_state;
    for (const auto& [owner_and_state, count] : counts_) {
      by_state[owner_and_state.second] += count;
    }
    std::vector<std::pair<v1::Job::State, int64_t>> counts;
    for (const auto& [state, count] : by_state) {
      if (count != 0) {
        counts.emplace_back(static_cast<v1::Job::State>(state), count);
      }
    }
    return counts;
  }

  int64_t CountJobs(const std::string& owner, v1::Job::State state) override {
    absl::MutexLock lock(&mu_);
    const auto it = counts_.find(std::pair(owner, static_cast<int>(state)));
    return it == counts_.end() ? 0 : it->second;
  }

  absl::Status Maintain() override { return janitor_->RunOnce(); }

  absl::Status Health() override {
    NORMLAB_RETURN_IF_ERROR(writer_->Health());
    absl::MutexLock lock(&close_mu_);
    return checkpointer_ == nullptr ? absl::OkStatus() : checkpointer_->Health();
  }

  void Close() override {
    janitor_->Stop();  // while the writer still answers it
    writer_->Close();
    reads_.Close();
    absl::MutexLock lock(&close_mu_);
    if (checkpointer_ == nullptr) {
      return;
    }
    sqlite3* handle = writer_->connection().database().getHandle();
    sqlite3_wal_hook(handle, nullptr, nullptr);
    checkpointer_ = nullptr;
    // What fails here is still in the log and is read from there at the next start.
    sqlite3_wal_checkpoint_v2(handle, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  }

 private:
  void AfterCommit(const Effects& effects, double seconds, int operations)
      ABSL_LOCKS_EXCLUDED(mu_) {
    std::shared_ptr<const CommitListener> listener;
    std::shared_ptr<const CommitObserver> observer;
    {
      absl::MutexLock lock(&mu_);
      for (const auto& [owner_and_state, delta] : effects.state_deltas) {
        counts_[owner_and_state] += delta;
      }
      listener = listener_;
      observer = observer_;
    }
    if (effects.deleted_job) {
      janitor_->Wake();
    }
    if (!effects.superseded.empty()) {
      janitor_->RemoveCheckpoints(effects.superseded);
    }
    if (observer != nullptr && *observer) {
      (*observer)(seconds, operations);
    }
    if (listener != nullptr && *listener) {
      for (const auto& [job_id, publication] : effects.published) {
        (*listener)(job_id, publication.last_sequence, publication.terminal);
      }
    }
  }

  const common::Clock& clock_;
  absl::Mutex mu_;
  JobCounts counts_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const CommitListener> listener_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const CommitObserver> observer_ ABSL_GUARDED_BY(mu_);

  ReadPool reads_;
  absl::Mutex close_mu_;
  std::unique_ptr<Checkpointer> checkpointer_ ABSL_GUARDED_BY(close_mu_);
  SqliteExperiments experiments_;
  std::unique_ptr<Writer> writer_;
  // Constructed after everything that it uses, and before the first deletion can be asked for.
  std::unique_ptr<Janitor> janitor_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  NORMLAB_RETURN_IF_ERROR(CheckLocalFilesystem(options.data_dir));
  const std::string path = absl::StrCat(options.data_dir, "/normlab.db");
  NORMLAB_ASSIGN_OR_RETURN(std::unique_ptr<Connection> writing,
                           OpenForWriting(path, options.max_database_bytes));
  return CatchSqlite(path, [&]() -> absl::StatusOr<std::unique_ptr<Store>> {
    JobCounts counts = ReadJobCounts(*writing);
    return std::make_unique<SqliteStore>(options, path, std::move(writing),
                                         OpenForCheckpoints(path), std::move(counts));
  });
}

absl::Status Store::DeleteJobAndWait(std::string job_id) {
  return AnswerOf<absl::Status>([&](absl::AnyInvocable<void(absl::Status) &&> done) {
    DeleteJob(std::move(job_id), std::move(done));
  });
}

absl::StatusOr<v1::Job> Store::UpdateJobAndWait(std::string job_id,
                                                Mutator mutate,
                                                std::optional<AttemptSecrets> secrets) {
  return AnswerOf<absl::StatusOr<v1::Job>>([&](JobCallback done) {
    UpdateJob(std::move(job_id), std::move(mutate), std::move(secrets), std::move(done));
  });
}

}  // namespace normlab::server
