#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Sizes of a classified image set.
struct DatasetShape {
  int32_t channels = 0;
  int32_t height = 0;
  int32_t width = 0;
  int32_t classes = 0;
  int32_t train_examples = 0;
  int32_t test_examples = 0;
};

// What is known of the spec's data set before its files are read: the image shape and classes are
// certain, the numbers of examples are the published ones (replace them by those of the
// DataReport). nullopt: no data set named.
std::optional<DatasetShape> KnownDatasetShape(const v1::JobSpec& spec);

// How far a run goes. The last batch of an epoch may be smaller (LastBatch KEEP).
struct RunLength {
  // Training examples used (train_limit applied).
  int64_t train_examples = 0;
  // Test examples used (test_limit applied).
  int64_t test_examples = 0;
  int64_t steps_per_epoch = 0;
  // Examples of an epoch's last batch when it is incomplete and kept, else 0.
  int64_t last_batch_size = 0;
  int64_t total_steps = 0;
  // Epochs begun: the last may be incomplete when the budget is in steps.
  int64_t total_epochs = 0;
};

// The one place with this arithmetic. `resolved`: from Resolve, valid. steps_per_epoch and all that
// follows are 0 when a batch does not fit into the training set (CheckData refuses that). Pure;
// thread-safe.
RunLength ComputeRunLength(const v1::JobSpec& resolved, const DatasetShape& shape);

// Rules that need the numbers of examples: an empty set, limits beyond it, a batch larger than the
// training set. (Rules about normalized sets need the network as well: see
// engine/models/job_check.h.) Pure; thread-safe.
std::vector<Violation> CheckData(const v1::JobSpec& resolved, const DatasetShape& shape);

}  // namespace normlab::engine
