#include "client/lib/testing/fake_experiments.h"

#include <chrono>
#include <thread>
#include <utility>

namespace normlab::client {

using normlab::v1::Experiment;

void FakeExperiments::Put(std::vector<Experiment> states) {
  const std::lock_guard<std::mutex> lock(mu_);
  const std::string name = states.front().name();
  experiments_[name] = std::move(states);
}

void FakeExperiments::PutSummary(normlab::v1::ExperimentSummary summary) {
  const std::lock_guard<std::mutex> lock(mu_);
  summary_ = std::move(summary);
}

void FakeExperiments::BreakNextWatch(int after) {
  const std::lock_guard<std::mutex> lock(mu_);
  break_after_ = after;
}

void FakeExperiments::HoldWatches() {
  const std::lock_guard<std::mutex> lock(mu_);
  hold_ = true;
}

void FakeExperiments::RefuseCreation(grpc::Status status) {
  const std::lock_guard<std::mutex> lock(mu_);
  refusal_ = std::move(status);
}

std::vector<normlab::v1::CreateExperimentRequest> FakeExperiments::create_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return create_requests_;
}

std::vector<normlab::v1::DeleteExperimentRequest> FakeExperiments::delete_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return delete_requests_;
}

std::vector<normlab::v1::SummarizeExperimentRequest> FakeExperiments::summarize_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return summarize_requests_;
}

int FakeExperiments::watches() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return watches_;
}

grpc::Status FakeExperiments::Find(const std::string& name, Experiment* experiment) const {
  const auto found = experiments_.find(name);
  if (found == experiments_.end()) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no experiment " + name);
  }
  *experiment = found->second.back();
  return grpc::Status::OK;
}

grpc::Status FakeExperiments::CreateExperiment(grpc::ServerContext* /*context*/,
                                               const normlab::v1::CreateExperimentRequest* request,
                                               Experiment* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  create_requests_.push_back(*request);
  if (!refusal_.ok()) {
    return std::exchange(refusal_, grpc::Status::OK);
  }
  *response = request->experiment();
  // As for one axis; that is what the tests ask for.
  if (!request->experiment().design().axes().empty()) {
    const normlab::v1::Axis& axis = request->experiment().design().axes(0);
    for (const std::string& value : axis.values()) {
      (*response->add_cells()->mutable_values())[axis.field()] = value;
    }
  }
  if (!request->validate_only()) {
    response->set_name("experiments/new");
    response->mutable_counts()->set_queued(response->cells_size());
    experiments_[response->name()] = {*response};
  }
  return grpc::Status::OK;
}

grpc::Status FakeExperiments::GetExperiment(grpc::ServerContext* /*context*/,
                                            const normlab::v1::GetExperimentRequest* request,
                                            Experiment* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  return Find(request->name(), response);
}

grpc::Status FakeExperiments::ListExperiments(grpc::ServerContext* /*context*/,
                                              const normlab::v1::ListExperimentsRequest* request,
                                              normlab::v1::ListExperimentsResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  // A page holds one.
  auto next = request->page_token().empty() ? experiments_.begin()
                                            : experiments_.find(request->page_token());
  if (next == experiments_.end()) {
    return grpc::Status::OK;
  }
  *response->add_experiments() = next->second.back();
  response->mutable_experiments(0)->clear_cells();
  if (++next != experiments_.end()) {
    response->set_next_page_token(next->first);
  }
  return grpc::Status::OK;
}

grpc::Status FakeExperiments::CancelExperiment(grpc::ServerContext* /*context*/,
                                               const normlab::v1::CancelExperimentRequest* request,
                                               Experiment* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (grpc::Status found = Find(request->name(), response); !found.ok()) {
    return found;
  }
  normlab::v1::JobCounts& counts = *response->mutable_counts();
  counts.set_cancelled(counts.cancelled() + counts.queued());
  counts.set_queued(0);
  return grpc::Status::OK;
}

grpc::Status FakeExperiments::DeleteExperiment(grpc::ServerContext* /*context*/,
                                               const normlab::v1::DeleteExperimentRequest* request,
                                               google::protobuf::Empty* /*response*/) {
  const std::lock_guard<std::mutex> lock(mu_);
  delete_requests_.push_back(*request);
  return experiments_.erase(request->name()) == 1 || request->allow_missing()
             ? grpc::Status::OK
             : grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no such experiment");
}

grpc::Status FakeExperiments::WatchExperiment(grpc::ServerContext* context,
                                              const normlab::v1::WatchExperimentRequest* request,
                                              grpc::ServerWriter<Experiment>* writer) {
  std::vector<Experiment> states;
  int break_after = -1;
  bool hold = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ++watches_;
    const auto found = experiments_.find(request->name());
    if (found == experiments_.end()) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no such experiment");
    }
    states = found->second;
    break_after = std::exchange(break_after_, -1);
    hold = hold_;
  }
  for (const Experiment& state : states) {
    if (break_after-- == 0) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on purpose");
    }
    writer->Write(state);
    if (state.has_end_time()) {
      return grpc::Status::OK;
    }
  }
  while (hold && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "nothing more");
}

grpc::Status FakeExperiments::SummarizeExperiment(
    grpc::ServerContext* /*context*/,
    const normlab::v1::SummarizeExperimentRequest* request,
    normlab::v1::ExperimentSummary* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  summarize_requests_.push_back(*request);
  *response = summary_;
  return grpc::Status::OK;
}

}  // namespace normlab::client
