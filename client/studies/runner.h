#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "client/studies/study.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client::studies {

// What running a study needs of a server. The calls block and are those of the service Experiments.
class ExperimentCalls {
 public:
  virtual ~ExperimentCalls() = default;
  virtual absl::StatusOr<v1::Experiment> Create(const v1::CreateExperimentRequest& request) = 0;
  // Complete, with cells.
  virtual absl::StatusOr<v1::Experiment> Get(const std::string& name) = 0;
  // Newest first, without cells.
  virtual absl::StatusOr<v1::ListExperimentsResponse> List(
      const v1::ListExperimentsRequest& request) = 0;
  // Calls `on_change` with the experiment at once and each time that states of its jobs changed, until its last job is over,
  // and `on_tick` now and then in between.
  virtual absl::Status Watch(const std::string& name,
                             const std::function<void(const v1::Experiment&)>& on_change,
                             const std::function<void()>& on_tick) = 0;
};

// Jobs of several experiments by what became of them.
v1::JobCounts SumOfCounts(const std::vector<v1::Experiment>& experiments);
int JobsIn(const v1::JobCounts& counts);
// Succeeded, diverged, failed or cancelled.
int JobsOver(const v1::JobCounts& counts);

struct StartedRun {
  std::vector<v1::Experiment> experiments;  // one for each part, in their order
  bool found = false;                       // it had been started before
};

// Creates a study's experiments, or finds those that the same call made before: an interrupted run goes on, a finished one is
// there at once. One with failed or cancelled jobs is not taken: a new one is started. All parts are checked before any is
// stored. Errors name the part; those of Create carry the server's details.
absl::StatusOr<StartedRun> StartRun(ExperimentCalls& calls,
                                    const Plan& plan,
                                    absl::string_view server_version,
                                    absl::string_view again);

// Checks every part with the server without storing anything.
absl::Status CheckRun(ExperimentCalls& calls, const Plan& plan, absl::string_view server_version);

// Waits for the last job of all experiments; `on_change` gets them with fresh counts, also while nothing changes. They are
// complete at the end.
absl::Status WaitForRun(ExperimentCalls& calls,
                        std::vector<v1::Experiment>& experiments,
                        const std::function<void(const std::vector<v1::Experiment>&)>& on_change);

// The parts of a run, complete: of the newest finished run of a study (`what` is its name; `preset` empty: any), or while there
// is none of the newest; or of the run that an experiment (experiments/ID) belongs to. NOT_FOUND says how to start one.
// `note` (may be null) becomes a sentence when a newer run was passed over because it is not over yet; else it is left alone.
absl::StatusOr<std::vector<v1::Experiment>> FindRun(ExperimentCalls& calls,
                                                    absl::string_view what,
                                                    absl::string_view preset,
                                                    std::string* note = nullptr);

}  // namespace normlab::client::studies
