#include "server/api/watch_job.h"

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/stream/cursor.h"

namespace normlab::server {
namespace {

// Large enough to make the cost of a message small; small, because a stalled reader's connection
// keeps some messages in memory, and there may be hundreds of them.
constexpr int64_t kMaxBatchBytes = 8 << 10;

class WatchSource final : public StreamSource<v1::WatchJobResponse> {
 public:
  WatchSource(Backend& backend, std::string job_id, int64_t after_sequence)
      : backend_(backend),
        job_id_(std::move(job_id)),
        cursor_(backend.store, job_id_, after_sequence) {}

  void Start(std::function<void()> wake) override {
    // Before the first read, so that nothing falls in between.
    subscription_ = backend_.hub.Subscribe(job_id_, std::move(wake));
  }

  absl::StatusOr<StreamStep> Next(bool idle, v1::WatchJobResponse& response) override {
    if (!greeted_) {
      NORMLAB_RETURN_IF_ERROR(Heartbeat(response));
      greeted_ = true;
      return StreamStep::kMessage;
    }
    NORMLAB_ASSIGN_OR_RETURN(std::optional<v1::RecordBatch> batch, cursor_.Next(kMaxBatchBytes));
    subscription_->Sent(cursor_.sequence());
    if (batch.has_value()) {
      *response.mutable_records() = *std::move(batch);
      return StreamStep::kMessage;
    }
    if (cursor_.finished()) {
      return StreamStep::kEnd;
    }
    if (idle) {
      NORMLAB_RETURN_IF_ERROR(Heartbeat(response));
      return StreamStep::kMessage;
    }
    return StreamStep::kWait;
  }

  StreamPosition position() const override { return AfterSequence(cursor_.sequence()); }

  void Stop() override { subscription_.reset(); }

 private:
  absl::Status Heartbeat(v1::WatchJobResponse& response) {
    NORMLAB_ASSIGN_OR_RETURN(v1::Job job, backend_.store.GetJob(job_id_));
    if (cursor_.sequence() > job.last_sequence()) {
      return SequenceOutOfRange(cursor_.sequence(), job.last_sequence());
    }
    subscription_->Sent(cursor_.sequence(), job.last_sequence());
    v1::Heartbeat& heartbeat = *response.mutable_heartbeat();
    heartbeat.set_sequence(cursor_.sequence());
    *heartbeat.mutable_time() = ToTimestamp(backend_.options.clock->Now());
    *heartbeat.mutable_progress() = std::move(*job.mutable_progress());
    return absl::OkStatus();
  }

  Backend& backend_;
  const std::string job_id_;
  Cursor cursor_;
  bool greeted_ = false;
  std::unique_ptr<Hub::Subscription> subscription_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchJobResponse>>> NewWatchSource(
    Backend& backend, const v1::WatchJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(std::string id, ParseJobName(request.name()));
  if (request.after_sequence() < 0) {
    return InvalidArgument("after_sequence",
                           absl::StrCat("is ", request.after_sequence(),
                                        "; use the sequence of the last record that you have, or 0 "
                                        "for everything"));
  }
  return std::make_unique<WatchSource>(backend, std::move(id), request.after_sequence());
}

}  // namespace normlab::server
