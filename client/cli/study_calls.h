#pragma once

#include "client/lib/client.h"
#include "client/studies/runner.h"

namespace normlab::client {

// The service Experiments through a client, which must outlive it. As thread-safe as the client.
class StudyCalls : public studies::ExperimentCalls {
 public:
  explicit StudyCalls(Client& client) : client_(client) {}

  absl::StatusOr<v1::Experiment> Create(const v1::CreateExperimentRequest& request) override;
  absl::StatusOr<v1::Experiment> Get(const std::string& name) override;
  absl::StatusOr<v1::ListExperimentsResponse> List(
      const v1::ListExperimentsRequest& request) override;
  absl::Status Watch(const std::string& name,
                     const std::function<void(const v1::Experiment&)>& on_change,
                     const std::function<void()>& on_tick) override;

 private:
  Client& client_;
};

}  // namespace normlab::client
