#include "server/api/read_logs.h"

#include <deque>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"

namespace normlab::server {
namespace {

// Of chunks that have lines.
constexpr int64_t kMaxReadBytes = 256 << 10;

class LogSource final : public StreamSource<v1::ReadLogsResponse> {
 public:
  LogSource(Backend& backend, std::string job_id, int64_t after_sequence, bool follow)
      : backend_(backend),
        job_id_(std::move(job_id)),
        follow_(follow),
        scanned_(after_sequence),
        sent_(after_sequence) {}

  void Start(std::function<void()> wake) override {
    if (follow_) {
      subscription_ = backend_.hub.Subscribe(job_id_, std::move(wake));
    }
  }

  absl::StatusOr<StreamStep> Next(bool idle, v1::ReadLogsResponse& response) override {
    if (lines_.empty() && !finished_) {
      NORMLAB_ASSIGN_OR_RETURN(LogPage page,
                               backend_.store.ReadLogs(job_id_, scanned_, kMaxReadBytes));
      scanned_ = page.scanned_sequence;
      const bool caught_up = scanned_ == page.last_sequence;
      finished_ = caught_up && (page.terminal || !follow_);
      lines_.assign(std::make_move_iterator(page.entries.begin()),
                    std::make_move_iterator(page.entries.end()));
      if (lines_.empty()) {
        sent_ = scanned_;
        ShowLag();
        if (finished_ || !caught_up) {
          return finished_ ? StreamStep::kEnd : StreamStep::kAgain;
        }
        if (!idle) {
          return StreamStep::kWait;
        }
        NORMLAB_RETURN_IF_ERROR(Heartbeat(response));
        return StreamStep::kMessage;
      }
    }
    if (lines_.empty()) {
      return StreamStep::kEnd;
    }
    response.set_sequence(lines_.front().sequence);
    *response.mutable_line() = std::move(lines_.front().line);
    lines_.pop_front();
    sent_ = lines_.empty() ? scanned_ : response.sequence();
    ShowLag();
    return StreamStep::kMessage;
  }

  StreamPosition position() const override { return AfterSequence(sent_); }

  void Stop() override { subscription_.reset(); }

 private:
  void ShowLag() {
    if (subscription_ != nullptr) {
      subscription_->Sent(sent_);
    }
  }

  absl::Status Heartbeat(v1::ReadLogsResponse& response) {
    NORMLAB_ASSIGN_OR_RETURN(v1::Job job, backend_.store.GetJob(job_id_));
    v1::Heartbeat& heartbeat = *response.mutable_heartbeat();
    heartbeat.set_sequence(sent_);
    *heartbeat.mutable_time() = ToTimestamp(backend_.options.clock->Now());
    *heartbeat.mutable_progress() = std::move(*job.mutable_progress());
    return absl::OkStatus();
  }

  Backend& backend_;
  const std::string job_id_;
  const bool follow_;
  int64_t scanned_;  // all lines up to here are in lines_ or were sent
  bool finished_ = false;
  std::deque<LogEntry> lines_;
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
