#include "server/store/job_rows.h"

#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"

namespace normlab::server {
namespace {

std::string Summary(const v1::Job& job) {
  v1::Job summary = job;
  summary.clear_resolved_spec();
  summary.clear_attempts();
  summary.clear_progress();
  summary.clear_last_sequence();
  return summary.SerializeAsString();
}

std::string Details(const v1::Job& job) {
  v1::Job details;
  if (job.has_resolved_spec()) {
    *details.mutable_resolved_spec() = job.resolved_spec();
  }
  *details.mutable_attempts() = job.attempts();
  return details.SerializeAsString();
}

// A double bit for bit: SQLite would turn a NaN into NULL.
std::string BytesOf(double value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

int64_t SpecBytes(const std::string& summary, const std::string& details) {
  return static_cast<int64_t>(summary.size() + details.size());
}

int64_t FailureMicros(const QueueEntry& entry) {
  return entry.last_failure == absl::InfinitePast() ? 0 : absl::ToUnixMicros(entry.last_failure);
}

double DoubleFrom(absl::string_view bytes) {
  double value = 0;
  if (bytes.size() == sizeof value) {
    std::memcpy(&value, bytes.data(), sizeof value);
  }
  return value;
}

}  // namespace

absl::Status ParseRow(Connection& connection,
                      absl::string_view bytes,
                      google::protobuf::Message& message) {
  if (!message.MergeFromString({bytes.data(), bytes.size()})) {
    return CorruptDatabase(connection.path(),
                           absl::StrCat("a stored ", message.GetTypeName(), " cannot be decoded"));
  }
  return absl::OkStatus();
}

int64_t CreateTimeMicros(const v1::Job& job) {
  return absl::ToUnixMicros(FromTimestamp(job.create_time()));
}

std::optional<int64_t> EndTimeMicros(const v1::Job& job) {
  if (!IsTerminal(job.state())) {
    return std::nullopt;
  }
  return absl::ToUnixMicros(FromTimestamp(job.end_time()));
}

absl::StatusOr<JobHead> ReadJobHead(Connection& connection, const std::string& job_id) {
  Query query(connection,
              "SELECT jobs.key, state, last_sequence FROM jobs JOIN progress ON job_key = jobs.key "
              "WHERE id = ?",
              job_id);
  if (!query.Step()) {
    return JobNotFound(JobName(job_id));
  }
  return JobHead{query.Int(0), static_cast<v1::Job::State>(query.Int(1)), query.Int(2)};
}

absl::StatusOr<v1::Job> ReadJobByKey(Connection& connection, int64_t key, JobParts parts) {
  Query query(connection,
              "SELECT summary, progress, last_sequence, details FROM jobs "
              "JOIN progress ON job_key = jobs.key WHERE jobs.key = ?",
              key);
  if (!query.Step()) {
    return CorruptDatabase(connection.path(), absl::StrCat("job ", key, " has no row"));
  }
  v1::Job job;
  NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), job));
  NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(1), *job.mutable_progress()));
  job.set_last_sequence(query.Int(2));
  if (parts == JobParts::kAll) {
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(3), job));
  }
  return job;
}

JobRow MakeJobRow(const std::string& job_id, const v1::Job& job) {
  JobRow row = {.id = job_id,
                .owner = job.owner(),
                .state = job.state(),
                .create_time_us = CreateTimeMicros(job),
                .end_time_us = EndTimeMicros(job),
                .experiment = job.experiment(),
                .summary = Summary(job),
                .details = Details(job),
                .progress = job.progress().SerializeAsString(),
                .last_sequence = job.last_sequence(),
                .labels = {job.labels().begin(), job.labels().end()},
                .queue = QueueEntryOf(job_id, job)};
  row.queue.bytes = SpecBytes(row.summary, row.details);
  return row;
}

int64_t InsertJobRow(Connection& connection, const JobRow& row) {
  Query(connection,
        "INSERT INTO jobs(id, owner, state, create_time_us, summary, details, experiment, "
        "end_time_us, priority, cores, memory_bytes, queue_time_us, waited_us, last_failure_us, "
        "spec_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row.id, row.owner, static_cast<int64_t>(row.state), row.create_time_us, Blob{row.summary},
        Blob{row.details}, row.experiment, row.end_time_us, row.queue.priority, row.queue.cores,
        row.queue.memory_bytes, absl::ToUnixMicros(row.queue.queue_time),
        absl::ToInt64Microseconds(row.queue.waited), FailureMicros(row.queue), row.queue.bytes)
      .Run();
  const int64_t key = connection.database().getLastInsertRowid();
  Query(connection, "INSERT INTO progress(job_key, last_sequence, progress) VALUES (?, ?, ?)", key,
        row.last_sequence, Blob{row.progress})
      .Run();
  for (const auto& [label, value] : row.labels) {
    Query(connection,
          "INSERT INTO labels(label, value, create_time_us, job_key, owner) VALUES (?, ?, ?, ?, ?)",
          label, value, row.create_time_us, key, row.owner)
        .Run();
  }
  return key;
}

int64_t InsertJob(Connection& connection, const std::string& job_id, const v1::Job& job) {
  return InsertJobRow(connection, MakeJobRow(job_id, job));
}

void WriteJob(Connection& connection, int64_t key, const v1::Job& job) {
  const std::string summary = Summary(job);
  const std::string details = Details(job);
  const QueueEntry queue = QueueEntryOf("", job);
  Query(connection,
        "UPDATE jobs SET state = ?, summary = ?, details = ?, end_time_us = ?, priority = ?, "
        "cores = ?, memory_bytes = ?, queue_time_us = ?, waited_us = ?, last_failure_us = ?, "
        "spec_bytes = ? WHERE key = ?",
        static_cast<int64_t>(job.state()), Blob{summary}, Blob{details}, EndTimeMicros(job),
        queue.priority, queue.cores, queue.memory_bytes, absl::ToUnixMicros(queue.queue_time),
        absl::ToInt64Microseconds(queue.waited), FailureMicros(queue), SpecBytes(summary, details),
        key)
      .Run();
}

void WriteProgress(Connection& connection, int64_t key, const v1::Job& job) {
  const std::string progress = job.progress().SerializeAsString();
  Query(connection, "UPDATE progress SET last_sequence = ?, progress = ? WHERE job_key = ?",
        job.last_sequence(), Blob{progress}, key)
      .Run();
}

void WriteLabels(Connection& connection, int64_t key, const v1::Job& job) {
  Query(connection, "DELETE FROM labels WHERE job_key = ?", key).Run();
  for (const auto& [label, value] : job.labels()) {
    Query(connection,
          "INSERT INTO labels(label, value, create_time_us, job_key, owner) VALUES (?, ?, ?, ?, ?)",
          label, value, CreateTimeMicros(job), key, job.owner())
        .Run();
  }
}

absl::StatusOr<std::optional<v1::Job>> FindRequestedJob(Connection& connection,
                                                        const std::string& owner,
                                                        const std::string& request_id,
                                                        const std::string& request_sha256,
                                                        absl::Time now) {
  int64_t key = 0;
  bool same_body = false;
  {
    Query query(connection,
                "SELECT job_key, body_sha256 FROM requests WHERE owner = ? AND request_id = ? "
                "AND create_time_us >= ?",
                owner, request_id, absl::ToUnixMicros(now - kRequestLifetime));
    if (!query.Step()) {
      return std::optional<v1::Job>();
    }
    key = query.Int(0);
    same_body = query.Bytes(1) == request_sha256;
  }
  {
    Query exists(connection, "SELECT 1 FROM jobs WHERE key = ?", key);
    if (!exists.Step()) {
      return RequestedJobDeleted(request_id);
    }
  }
  NORMLAB_ASSIGN_OR_RETURN(v1::Job job, ReadJobByKey(connection, key, JobParts::kAll));
  if (!same_body) {
    return RequestIdReused(request_id, job.name());
  }
  return std::optional<v1::Job>(std::move(job));
}

absl::StatusOr<AttemptSecrets> ReadAttemptSecrets(Connection& connection,
                                                  int64_t job_key,
                                                  int32_t number) {
  Query query(connection,
              "SELECT secret_sha256, process_identity, checkpoint_folder, last_report "
              "FROM attempts WHERE job_key = ? AND number = ?",
              job_key, number);
  if (!query.Step()) {
    return absl::NotFoundError(absl::StrCat("the job has no attempt ", number,
                                            "; look at its attempts with GetJob (normlab get)"));
  }
  return AttemptSecrets{query.Text(0), query.Text(1), query.Text(2), query.Int(3)};
}

void WriteAttemptSecrets(Connection& connection,
                         int64_t job_key,
                         int32_t number,
                         const AttemptSecrets& secrets) {
  Query(connection,
        "INSERT OR REPLACE INTO attempts(job_key, number, secret_sha256, process_identity, "
        "checkpoint_folder, last_report) VALUES (?, ?, ?, ?, ?, ?)",
        job_key, number, Blob{secrets.secret_sha256}, secrets.process_identity,
        secrets.checkpoint_folder, secrets.last_report)
      .Run();
}

std::vector<SeriesTail> ReadSeriesTails(Connection& connection, int64_t job_key) {
  std::vector<SeriesTail> tails;
  Query query(connection,
              "SELECT id, name, points, nans, last_step, last_value FROM series "
              "WHERE job_key = ? ORDER BY id",
              job_key);
  while (query.Step()) {
    SeriesTail& tail = tails.emplace_back();
    tail.series.set_id(static_cast<uint32_t>(query.Int(0)));
    tail.series.set_name(query.Text(1));
    tail.points = query.Int(2);
    tail.nans = query.Int(3);
    tail.last_step = query.Int(4);
    tail.last_value = DoubleFrom(query.Bytes(5));
  }
  return tails;
}

void WriteSeriesTail(Connection& connection, int64_t job_key, const SeriesTail& tail) {
  const std::string last_value = BytesOf(tail.last_value);
  Query(connection,
        "INSERT INTO series(job_key, id, name, points, nans, last_step, last_value) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(job_key, id) DO UPDATE SET "
        "points = excluded.points, nans = excluded.nans, last_step = excluded.last_step, "
        "last_value = excluded.last_value",
        job_key, tail.series.id(), tail.series.name(), tail.points, tail.nans, tail.last_step,
        Blob{last_value})
      .Run();
}

}  // namespace normlab::server
