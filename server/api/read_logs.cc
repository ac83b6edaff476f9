#include "server/api/read_logs.h"

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/stream/cursor.h"

namespace normlab::server {
namespace {

constexpr int64_t kMaxBatchBytes = 256 << 10;

class LogSource final : public StreamSource<v1::ReadLogsResponse> {
 public:
  LogSource(Backend& backend, std::string job_id, int64_t after_sequence, bool follow)
      : backend_(backend),
        job_id_(std::move(job_id)),
        follow_(follow),
        cursor_(backend.store, job_id_, after_sequence),
        sent_(after_sequence) {}

  void Start(std::function<void()> wake) override {
    if (follow_) {
      subscription_ = backend_.hub.Subscribe(job_id_, std::move(wake));
    }
  }

  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::ReadLogsResponse& response) override {
    if (lines_.empty()) {
      NORMLAB_ASSIGN_OR_RETURN(std::optional<v1::RecordBatch> batch, cursor_.Next(kMaxBatchBytes));
      if (!batch.has_value()) {
        sent_ = cursor_.sequence();
        return cursor_.finished() || !follow_ ? StreamStep::kEnd : StreamStep::kWait;
      }
      Collect(*std::move(batch));
    }
    if (lines_.empty()) {
      sent_ = cursor_.sequence();
      return StreamStep::kAgain;
    }
    response = std::move(lines_.front());
    lines_.pop_front();
    sent_ = lines_.empty() ? cursor_.sequence() : response.sequence();
    return StreamStep::kMessage;
  }

  StreamPosition position() const override { return {"after_sequence", sent_}; }

  void Stop() override { subscription_.reset(); }

 private:
  void Collect(v1::RecordBatch batch) {
    int64_t sequence = batch.first_sequence();
    for (v1::Segment& segment : *batch.mutable_segments()) {
      if (segment.has_log()) {
        v1::ReadLogsResponse& line = lines_.emplace_back();
        line.set_sequence(sequence);
        *line.mutable_line() = std::move(*segment.mutable_log());
      }
      sequence += segment.has_metrics() ? segment.metrics().steps_size() : 1;
    }
  }

  Backend& backend_;
  const std::string job_id_;
  const bool follow_;
  Cursor cursor_;
  std::deque<v1::ReadLogsResponse> lines_;  // of the last batch, not yet sent
  int64_t sent_;
  std::unique_ptr<Hub::Subscription> subscription_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadLogsResponse>>> NewLogSource(
    Backend& backend, const v1::ReadLogsRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(std::string id, ParseJobName(request.name()));
  if (request.after_sequence() < 0) {
    return InvalidArgument(
        "after_sequence",
        absl::StrCat("is ", request.after_sequence(),
                     "; use the sequence of the last line that you have, or 0 for all"));
  }
  return std::make_unique<LogSource>(backend, std::move(id), request.after_sequence(),
                                     request.follow());
}

}  // namespace normlab::server
