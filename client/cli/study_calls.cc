#include "client/cli/study_calls.h"

namespace normlab::client {
namespace {

// Hands what it learns on to functions.
class Forward : public ExperimentHandler {
 public:
  Forward(const std::function<void(const v1::Experiment&)>& on_change,
          const std::function<void()>& on_tick)
      : on_change_(on_change), on_tick_(on_tick) {}

  absl::Status OnExperiment(const v1::Experiment& experiment) override {
    on_change_(experiment);
    return absl::OkStatus();
  }
  void OnTick() override { on_tick_(); }

 private:
  const std::function<void(const v1::Experiment&)>& on_change_;
  const std::function<void()>& on_tick_;
};

}  // namespace

absl::StatusOr<v1::Experiment> StudyCalls::Create(const v1::CreateExperimentRequest& request) {
  return client_.CreateExperiment(request.experiment(), {.request_id = request.request_id(),
                                                         .validate_only = request.validate_only()});
}

absl::StatusOr<v1::Experiment> StudyCalls::Get(const std::string& name) {
  return client_.GetExperiment(name);
}

absl::StatusOr<v1::ListExperimentsResponse> StudyCalls::List(
    const v1::ListExperimentsRequest& request) {
  return client_.ListExperiments(request);
}

absl::Status StudyCalls::Watch(const std::string& name,
                               const std::function<void(const v1::Experiment&)>& on_change,
                               const std::function<void()>& on_tick) {
  Forward handler(on_change, on_tick);
  return client_.WatchExperiment(name, handler).status();
}

}  // namespace normlab::client
