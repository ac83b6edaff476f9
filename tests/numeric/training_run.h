#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// What is known of a run while it goes on, and afterwards. Sizes are those of the steps done.
struct TrainingCurves {
  std::vector<double> train_loss;
  std::vector<double> train_accuracy;
  std::map<int64_t, double> test_accuracy;  // by the step before which it was measured
  std::vector<std::string> logs;

  // Mean over the last `count` steps; NaN before there are as many.
  double RecentLoss(size_t count) const;
  double RecentAccuracy(size_t count) const;
  // The best so far; 0 before the first evaluation.
  double BestTestAccuracy() const;
};

struct TrainingResult {
  v1::Outcome outcome;
  TrainingCurves curves;
  int64_t steps_per_epoch = 0;
};

// Trains a job as a worker does: Validate, Resolve, the data set decoded into a cache of its own
// below the test's temporary folder, Trainer. `text` is a JobSpec in protobuf's text format.
// `enough`, when given, is asked after every step and ends the run (CANCELLED) by true: a bound
// that is reached needs no more steps. `data_roots`: where relative paths of the data are.
//
// INVALID_ARGUMENT: the spec, the data or the network is refused, every violation in the text. Not
// thread-safe.
absl::StatusOr<TrainingResult> RunTraining(
    const std::string& text,
    const std::vector<std::string>& data_roots = {"/usr/share/datasets"},
    const std::function<bool(const TrainingCurves&)>& enough = nullptr);

}  // namespace normlab::engine
