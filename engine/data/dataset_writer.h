#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "engine/spec/run_length.h"

namespace normlab::engine {

// One part of a decoded data set, as MappedPart: values are bytes or floats, and examples have
// labels or targets.
struct DecodedPart {
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
  std::vector<int32_t> labels;
  std::vector<float> targets;
};

// A data set on its way into the cache file; the sizes of the vectors follow from `shape`.
struct DecodedDataset {
  DatasetShape shape;
  DecodedPart train;
  DecodedPart test;
};

// Writes the cache file that MappedDataset maps, durably and all at once, together with the mean and
// deviation of every channel over the training values. (Exact for bytes; two passes in double for
// floats.) Needs no second copy of the data.
//
// INVALID_ARGUMENT: sizes that do not fit together or are beyond the limits; errors of the file
// system as errno has them, with the path; nothing is left behind then. Thread-safe.
absl::Status WriteDataset(const DecodedDataset& data, const std::string& path);

}  // namespace normlab::engine
