#include "server/api/watch_experiment.h"

#include <functional>
#include <string>
#include <utility>

#include "common/status_macros.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

class ExperimentSource final : public StreamSource<v1::Experiment> {
 public:
  ExperimentSource(Backend& backend, std::string id) : backend_(backend), id_(std::move(id)) {}

  void Start(std::function<void()> wake) override {
    // Before the first read, so that nothing falls in between.
    subscription_ = backend_.hub.Subscribe(ExperimentName(id_), std::move(wake));
  }

  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::Experiment& response) override {
    if (ended_) {
      return StreamStep::kEnd;
    }
    // Called when there is news, and by the reactor's clock when nothing was sent for the interval:
    // news within the interval waits for that.
    const absl::Duration now = common::Clock::Real().Monotonic();
    if (sent_at_ != -absl::InfiniteDuration() &&
        now - sent_at_ < backend_.options.experiment_interval) {
      return StreamStep::kWait;
    }
    NORMLAB_ASSIGN_OR_RETURN(StoredExperiment stored,
                             backend_.store.experiments().Get(id_, ExperimentStore::Parts::kAll));
    if (stored.states == states_) {
      return StreamStep::kWait;
    }
    sent_at_ = now;
    ended_ = stored.experiment.has_end_time();
    states_ = std::move(stored.states);
    response = std::move(stored.experiment);
    return StreamStep::kMessage;
  }

  // A reader that lost the connection starts anew: the first message says everything.
  StreamPosition position() const override { return {}; }

  void Stop() override { subscription_.reset(); }

 private:
  Backend& backend_;
  const std::string id_;
  std::unique_ptr<Hub::Subscription> subscription_;
  absl::Duration sent_at_ = -absl::InfiniteDuration();
  bool ended_ = false;
  std::vector<v1::Job::State> states_;  // as sent
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::Experiment>>> NewExperimentSource(
    Backend& backend, const v1::WatchExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(std::string id, ParseExperimentName(request.name()));
  return std::make_unique<ExperimentSource>(backend, std::move(id));
}

}  // namespace normlab::server
