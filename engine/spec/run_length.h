#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Sizes and kind of a data set: examples with classes or with real-valued targets.
struct DatasetShape {
  int32_t channels = 0;  // features of a dense example
  int32_t height = 0;    // 1 for dense examples, like the width
  int32_t width = 0;
  int32_t classes = 0;  // 0: real-valued targets
  int32_t train_examples = 0;
  int32_t test_examples = 0;
  // Real-valued targets of an example; 0: classes.
  int32_t targets = 0;
  // True: features [channels]; false: images [channels, height, width].
  bool dense = false;
  // True: values are floats; false: bytes.
  bool floats = false;

  int64_t example_values() const { return int64_t{channels} * height * width; }
  friend bool operator==(const DatasetShape&, const DatasetShape&) = default;
};

// Shape of one example as the network sees it: [channels] or [channels, height, width]. Pure.
std::vector<int64_t> InputDims(const DatasetShape& shape);

// Bytes of the decoded set, as workers map it: values, and four bytes a label or target. Does not
// overflow for sizes up to those of limits.h. Pure.
int64_t DecodedBytes(const DatasetShape& shape);

// What is known of the spec's data set before its files are read. Of published sets the shape of an
// example and the classes are certain, the numbers of examples are the published ones; of synthetic
// sets everything is; of `arrays` nothing. (Replace it by what the DataReport says.) `spec` may be
// resolved or not. nullopt: no data set named, nothing known, or sizes that Validate refuses.
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

// Rules that need the data set's shape: an empty set, limits beyond it, a batch larger than the
// training set, a scaling that is for bytes only, image augmentation of something else. (Rules about normalized sets need the network as well: see
// engine/models/job_check.h.) Pure; thread-safe.
std::vector<Violation> CheckData(const v1::JobSpec& resolved, const DatasetShape& shape);

}  // namespace normlab::engine
