#include "server/store/live_job.h"

#include <utility>

#include "common/status_macros.h"

namespace normlab::server {
namespace {

// Far more than jobs run at once; all are dropped then, and read again as needed.
constexpr size_t kMaxLiveJobs = 1024;

}  // namespace

absl::Status LiveJob::LoadAttempt(Connection& connection, int32_t number) {
  if (attempt == number) {
    return absl::OkStatus();
  }
  attempt = 0;
  NORMLAB_ASSIGN_OR_RETURN(secrets, ReadAttemptSecrets(connection, key, number));
  attempt_series.clear();
  Query query(
      connection,
      "SELECT local_id, series_id, repeated FROM attempt_series WHERE job_key = ? AND attempt = ?",
      key, number);
  while (query.Step()) {
    attempt_series[static_cast<uint32_t>(query.Int(0))] = {static_cast<uint32_t>(query.Int(1)),
                                                           query.Int(2)};
  }
  attempt = number;
  return absl::OkStatus();
}

absl::StatusOr<LiveJob*> LiveJobs::Get(Connection& connection, const std::string& job_id) {
  if (const auto it = jobs_.find(job_id); it != jobs_.end()) {
    return it->second.get();
  }
  NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(connection, job_id));
  auto live = std::make_unique<LiveJob>();
  live->key = head.key;
  live->id = job_id;
  NORMLAB_ASSIGN_OR_RETURN(live->job, ReadJobByKey(connection, head.key, JobParts::kAll));
  live->series = ReadSeriesTails(connection, head.key);
  for (const SeriesTail& tail : live->series) {
    live->series_ids[tail.series.name()] = tail.series.id();
  }
  Query chunks(connection,
               "SELECT sealed, length(payload) FROM records WHERE job_key = ? "
               "ORDER BY last_sequence DESC",
               head.key);
  while (chunks.Step() && chunks.Int(0) == 0) {
    ++live->open_chunks;
    live->open_bytes += chunks.Int(1);
  }
  if (jobs_.size() >= kMaxLiveJobs) {
    jobs_.clear();
  }
  return (jobs_[job_id] = std::move(live)).get();
}

}  // namespace normlab::server
