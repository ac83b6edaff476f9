#include "server/api/watch_experiment.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

class ExperimentSource final : public StreamSource<v1::Experiment> {
 public:
  ExperimentSource(Backend& backend, std::string id, bool heartbeats)
      : backend_(backend), id_(std::move(id)), heartbeats_(heartbeats) {}

  void Start(std::function<void()> wake) override {
    // Before the first read, so that nothing falls in between.
    subscription_ = backend_.hub.Subscribe(ExperimentName(id_), [this, wake = std::move(wake)] {
      news_ = true;
      wake();
    });
  }

  // Called after news, after each message, and by the reactor's clock: news within the interval waits for that.
  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::Experiment& response) override {
    if (ended_) {
      return StreamStep::kEnd;
    }
    const absl::Duration now = common::Clock::Real().Monotonic();
    if (news_ && now - changed_at_ >= backend_.options.experiment_interval) {
      news_ = false;  // before the read, so that what comes after it is news again
      NORMLAB_ASSIGN_OR_RETURN(const bool changed, HasChanged());
      if (changed) {
        changed_at_ = now;
        sent_at_ = now;
        return ReadAll(response);
      }
    }
    if (heartbeats_ && now - sent_at_ >= backend_.options.heartbeat_interval) {
      sent_at_ = now;
      response.set_name(ExperimentName(id_));
      return StreamStep::kMessage;
    }
    return StreamStep::kWait;
  }

  // A reader that lost the connection starts anew: the first message says everything.
  StreamPosition position() const override { return {}; }

  void Stop() override { subscription_.reset(); }

 private:
  // The experiment's own row may be a megabyte: it is read once it has to be sent.
  absl::StatusOr<bool> HasChanged() {
    if (states_.empty()) {
      return true;
    }
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Job::State> states,
                             backend_.store.experiments().GetStates(id_));
    return states != states_;
  }

  absl::StatusOr<StreamStep> ReadAll(v1::Experiment& response) {
    NORMLAB_ASSIGN_OR_RETURN(StoredExperiment stored,
                             backend_.store.experiments().Get(id_, ExperimentStore::Parts::kAll));
    ended_ = stored.experiment.has_end_time();
    states_ = std::move(stored.states);
    response = std::move(stored.experiment);
    return StreamStep::kMessage;
  }

  Backend& backend_;
  const std::string id_;
  const bool heartbeats_;
  std::unique_ptr<Hub::Subscription> subscription_;
  absl::Duration sent_at_ = -absl::InfiniteDuration();
  absl::Duration changed_at_ = -absl::InfiniteDuration();  // when that was no heartbeat
  std::atomic<bool> news_ = true;
  bool ended_ = false;
  std::vector<v1::Job::State> states_;  // as sent
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::Experiment>>> NewExperimentSource(
    Backend& backend, const v1::WatchExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(std::string id, ParseExperimentName(request.name()));
  return std::make_unique<ExperimentSource>(backend, std::move(id), request.heartbeats());
}

absl::Duration WatchedExperimentTick(const ApiOptions& options) {
  return std::min(options.experiment_interval, options.heartbeat_interval);
}

}  // namespace normlab::server
