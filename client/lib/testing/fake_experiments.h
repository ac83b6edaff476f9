#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "normlab/v1/experiments.grpc.pb.h"

namespace normlab::client {

// The Experiments service in memory: remembers what it is asked and answers with what tests put in.
// Thread-safe.
class FakeExperiments : public normlab::v1::Experiments::Service {
 public:
  // What GetExperiment, WatchExperiment and the others say of it; a watch sends `states` in order and
  // ends after one with an end_time, or with UNAVAILABLE when there is none.
  void Put(std::vector<normlab::v1::Experiment> states);
  void PutSummary(normlab::v1::ExperimentSummary summary);
  // The next watch breaks after so many messages.
  void BreakNextWatch(int after);
  // The next watches say nothing after their messages until the client goes away.
  void HoldWatches();
  // The next creation is refused so.
  void RefuseCreation(grpc::Status status);

  std::vector<normlab::v1::CreateExperimentRequest> create_requests() const;
  std::vector<normlab::v1::DeleteExperimentRequest> delete_requests() const;
  std::vector<normlab::v1::SummarizeExperimentRequest> summarize_requests() const;
  int watches() const;

  grpc::Status CreateExperiment(grpc::ServerContext*,
                                const normlab::v1::CreateExperimentRequest*,
                                normlab::v1::Experiment*) override;
  grpc::Status GetExperiment(grpc::ServerContext*,
                             const normlab::v1::GetExperimentRequest*,
                             normlab::v1::Experiment*) override;
  grpc::Status ListExperiments(grpc::ServerContext*,
                               const normlab::v1::ListExperimentsRequest*,
                               normlab::v1::ListExperimentsResponse*) override;
  grpc::Status CancelExperiment(grpc::ServerContext*,
                                const normlab::v1::CancelExperimentRequest*,
                                normlab::v1::Experiment*) override;
  grpc::Status DeleteExperiment(grpc::ServerContext*,
                                const normlab::v1::DeleteExperimentRequest*,
                                google::protobuf::Empty*) override;
  grpc::Status WatchExperiment(grpc::ServerContext*,
                               const normlab::v1::WatchExperimentRequest*,
                               grpc::ServerWriter<normlab::v1::Experiment>*) override;
  grpc::Status SummarizeExperiment(grpc::ServerContext*,
                                   const normlab::v1::SummarizeExperimentRequest*,
                                   normlab::v1::ExperimentSummary*) override;

 private:
  grpc::Status Find(const std::string& name, normlab::v1::Experiment* experiment) const;

  mutable std::mutex mu_;
  std::map<std::string, std::vector<normlab::v1::Experiment>> experiments_;  // states by name
  normlab::v1::ExperimentSummary summary_;
  int break_after_ = -1;
  bool hold_ = false;
  grpc::Status refusal_;
  int watches_ = 0;
  std::vector<normlab::v1::CreateExperimentRequest> create_requests_;
  std::vector<normlab::v1::DeleteExperimentRequest> delete_requests_;
  std::vector<normlab::v1::SummarizeExperimentRequest> summarize_requests_;
};

}  // namespace normlab::client
