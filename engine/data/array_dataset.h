#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "engine/data/array.h"
#include "engine/data/data_source.h"

namespace normlab::engine {

// One of the four arrays of a data set, as read.
struct ArrayPart {
  std::string field;  // of the spec, for what is wrong with it
  absl::StatusOr<Array> array = absl::UnknownError("not read");
};

struct ArrayParts {
  ArrayPart x_train;
  ArrayPart y_train;
  ArrayPart x_test;
  ArrayPart y_test;
};

// Makes a data set of four arrays: inputs of bytes or floats, [N, D], [N, H, W] or [N, C, H, W];
// targets of integers [N], classes from 0, or of floats [N] or [N, T]. Both parts must have inputs
// of one shape and kind, and targets of one kind; the number of classes is the largest label of
// both parts and 1. Consumes the arrays.
//
// nullopt: `problems` has everything that is wrong, each with its field.
std::optional<DecodedDataset> CombineArrays(ArrayParts parts, DataProblems& problems);

}  // namespace normlab::engine
