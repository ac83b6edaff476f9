// The streams of the fake services: records, metrics and logs, with faults on demand.
#include <algorithm>
#include <chrono>
#include <set>

#include "absl/strings/str_cat.h"

#include "client/lib/testing/fake_jobs_service.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

// How often a waiting handler looks whether its client is still there.
constexpr std::chrono::milliseconds kPoll(5);
// Batches of different sizes from stream to stream, so that resumption falls inside former batches.
constexpr int64_t kBatchSizes[] = {7, 1, 3, 5, 2, 11};

}  // namespace

grpc::Status FakeServer::WatchJob(grpc::ServerContext* context,
                                  const normlab::v1::WatchJobRequest* request,
                                  grpc::ServerWriter<normlab::v1::WatchJobResponse>* writer) {
  const int64_t drop = NextDrop();
  std::unique_lock<std::mutex> lock(mu_);
  watch_positions_.push_back(request->after_sequence());
  StoredJob* stored = nullptr;
  if (grpc::Status status = Find(request->name(), &stored); !status.ok()) {
    return status;
  }
  int64_t position = request->after_sequence();
  if (position > static_cast<int64_t>(stored->records.size())) {
    return grpc::Status(grpc::StatusCode::OUT_OF_RANGE,
                        absl::StrCat("the last record is ", stored->records.size()));
  }
  if (freeze_) {
    freeze_ = false;
    while (!context->IsCancelled() && !stopping_) {
      changed_.wait_for(lock, kPoll);
    }
    return grpc::Status::CANCELLED;
  }
  normlab::v1::WatchJobResponse heartbeat;
  heartbeat.mutable_heartbeat()->set_sequence(position);
  heartbeat.mutable_heartbeat()->mutable_progress()->CopyFrom(stored->job.progress());
  writer->Write(heartbeat);
  const int64_t size = kBatchSizes[watch_positions_.size() % std::size(kBatchSizes)];
  int64_t sent = 0;
  while (!context->IsCancelled() && !stopping_) {
    if (drop >= 0 && sent >= drop) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake drops this stream");
    }
    const int64_t left = static_cast<int64_t>(stored->records.size()) - position;
    if (left == 0) {
      if (stored->IsOver()) {
        return grpc::Status::OK;
      }
      changed_.wait_for(lock, kPoll);
      continue;
    }
    const int64_t count = std::min({left, size, drop >= 0 ? drop - sent : left});
    normlab::v1::WatchJobResponse response;
    int64_t from = position;
    if (broken_sequence_ > position && broken_sequence_ <= position + count) {
      from += repeat_broken_ ? -1 : 1;
    }
    FillBatch(stored->records, from, count, response.mutable_records());
    position += count;
    sent += count;
    lock.unlock();
    const bool written = writer->Write(response);
    lock.lock();
    if (!written) {
      break;
    }
  }
  return stopping_ ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down")
                   : grpc::Status::CANCELLED;
}

grpc::Status FakeServer::ReadMetrics(grpc::ServerContext* /*context*/,
                                     const normlab::v1::ReadMetricsRequest* request,
                                     grpc::ServerWriter<normlab::v1::ReadMetricsResponse>* writer) {
  int64_t drop = NextDrop();
  const std::lock_guard<std::mutex> lock(mu_);
  StoredJob* stored = nullptr;
  if (grpc::Status status = Find(request->name(), &stored); !status.ok()) {
    return status;
  }
  std::set<std::string> known;
  for (const FakeRecord& record : stored->records) {
    if (const auto* points = std::get_if<FakePoints>(&record)) {
      for (const auto& [name, value] : points->values) {
        known.insert(name);
      }
    }
  }
  for (const std::string& name : request->series()) {
    if (known.count(name) == 0) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, absl::StrCat("there is no series ", name));
    }
  }
  const std::vector<normlab::v1::ReadMetricsResponse> series =
      SelectPoints(stored->records, *request);
  constexpr int kPointsPerMessage = 3;
  metric_positions_.push_back(request->position());
  // A position is the number of messages before.
  const int64_t skipped = request->position().empty() ? 0 : std::stoll(request->position());
  int64_t messages = 0;
  for (const normlab::v1::ReadMetricsResponse& all : series) {
    for (int begin = 0; begin < all.steps_size(); begin += kPointsPerMessage) {
      if (++messages <= skipped) {
        continue;
      }
      if (drop-- == 0) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake drops this stream");
      }
      normlab::v1::ReadMetricsResponse part;
      if (give_positions_) {
        part.set_position(std::to_string(messages));
      }
      part.set_series(all.series());
      for (int i = begin; i < std::min(begin + kPointsPerMessage, all.steps_size()); ++i) {
        part.add_steps(all.steps(i));
        part.add_values(all.values(i));
      }
      writer->Write(part);
    }
  }
  return grpc::Status::OK;
}

void FakeServer::GivePositions() {
  const std::lock_guard<std::mutex> lock(mu_);
  give_positions_ = true;
}

void FakeServer::AddArtifact(normlab::v1::Artifact artifact, std::string bytes) {
  const std::lock_guard<std::mutex> lock(mu_);
  artifacts_.emplace_back(std::move(artifact), std::move(bytes));
}

std::vector<std::string> FakeServer::metric_positions() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return metric_positions_;
}

std::vector<int64_t> FakeServer::artifact_offsets() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return artifact_offsets_;
}

grpc::Status FakeServer::ListArtifacts(grpc::ServerContext* /*context*/,
                                       const normlab::v1::ListArtifactsRequest* request,
                                       normlab::v1::ListArtifactsResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  for (const auto& [artifact, bytes] : artifacts_) {
    if (artifact.name().rfind(request->parent() + "/", 0) == 0) {
      *response->add_artifacts() = artifact;
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::ReadArtifact(
    grpc::ServerContext* /*context*/,
    const normlab::v1::ReadArtifactRequest* request,
    grpc::ServerWriter<normlab::v1::ReadArtifactResponse>* writer) {
  int64_t drop = NextDrop();
  const std::lock_guard<std::mutex> lock(mu_);
  artifact_offsets_.push_back(request->offset());
  for (const auto& [artifact, bytes] : artifacts_) {
    if (artifact.name() != request->name()) {
      continue;
    }
    constexpr size_t kPieceBytes = 5;
    auto offset = static_cast<size_t>(request->offset());
    bool first = true;
    while (first || offset < bytes.size()) {
      if (drop-- == 0) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake drops this stream");
      }
      normlab::v1::ReadArtifactResponse piece;
      if (first) {
        *piece.mutable_artifact() = artifact;
      }
      first = false;
      piece.set_offset(static_cast<int64_t>(offset));
      piece.set_data(bytes.substr(offset, kPieceBytes));
      offset += piece.data().size();
      writer->Write(piece);
    }
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no such artifact");
}

grpc::Status FakeServer::ReadLogs(grpc::ServerContext* context,
                                  const normlab::v1::ReadLogsRequest* request,
                                  grpc::ServerWriter<normlab::v1::ReadLogsResponse>* writer) {
  int64_t drop = NextDrop();
  std::unique_lock<std::mutex> lock(mu_);
  StoredJob* stored = nullptr;
  if (grpc::Status status = Find(request->name(), &stored); !status.ok()) {
    return status;
  }
  int64_t position = request->after_sequence();
  while (!context->IsCancelled() && !stopping_) {
    if (position == static_cast<int64_t>(stored->records.size())) {
      if (stored->IsOver() || !request->follow()) {
        return grpc::Status::OK;
      }
      normlab::v1::ReadLogsResponse alive;
      alive.mutable_heartbeat()->set_sequence(position);
      writer->Write(alive);
      changed_.wait_for(lock, kPoll);
      continue;
    }
    const FakeRecord& record = stored->records[static_cast<size_t>(position++)];
    if (const auto* line = std::get_if<normlab::v1::LogLine>(&record)) {
      if (drop-- == 0) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake drops this stream");
      }
      normlab::v1::ReadLogsResponse response;
      response.set_sequence(position);
      *response.mutable_line() = *line;
      writer->Write(response);
    }
  }
  return grpc::Status::CANCELLED;
}

}  // namespace normlab::client
