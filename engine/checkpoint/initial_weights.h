#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/checkpoint/safetensors.h"
#include "engine/graph/graph.h"

namespace normlab::engine {

// Where weights come from, see InitialWeights in spec.proto.
struct InitialWeightsSource {
  std::string path;
  std::vector<std::string> ignore;  // patterns with '*'
  std::vector<std::string> data_roots;
};

// A parameter or running statistic of a network, by its shape.
struct WeightShape {
  std::string name;
  Dims dims;
  ParameterRole role = ParameterRole::kWeight;
};

// The same with its values, already initialized.
struct WeightTarget {
  MutableTensor tensor;
  ParameterRole role = ParameterRole::kWeight;
};

struct InitialWeightsSummary {
  std::string path;    // where the file was found
  std::string sha256;  // of its contents
  int read = 0;        // tensors taken from it
  // Of the network, that keep what they had: ignored ones, and running statistics that the file
  // lacks.
  std::vector<std::string> kept;
};

// Overwrites `targets` by the tensors of those names in a safetensors file, which may hold F32, F16,
// BF16 or F64. Every target must be there in its shape and every tensor of the file must be a target,
// except: names that match `ignore` are left alone on both sides; running statistics may be missing;
// PyTorch's num_batches_tracked is passed over. A single value fits [1] as well as a scalar.
//
// The message of an error begins with the field ("initial_weights.path is ..."), names every tensor
// that does not fit with both shapes (the first ten, and the number of the others), and says what to
// do. NOT_FOUND and INVALID_ARGUMENT as WeightsFile::Open; FAILED_PRECONDITION: the file does not
// fit this network, and no target has changed; DATA_LOSS: a value is not a finite float, or a
// running variance is negative; INTERNAL: it cannot be read; ABORTED: it changed meanwhile. In the
// last three cases some targets may have changed. Thread-safe for disjoint targets.
absl::StatusOr<InitialWeightsSummary> ReadInitialWeights(const InitialWeightsSource& source,
                                                         absl::Span<const WeightTarget> targets);

// Compares the file with a network of these shapes. OK: ReadInitialWeights would find every tensor;
// then `unused` has the patterns of `ignore` that match neither a tensor of the file nor one of the
// network. Else the message and code of ReadInitialWeights, without the field's name in front.
// Reads only the header. Thread-safe.
absl::Status CheckInitialWeights(const InitialWeightsSource& source,
                                 absl::Span<const WeightShape> network,
                                 std::vector<std::string>& unused);

// What can be said without the network: OK when the file exists below a data root and is a
// safetensors file with at least one tensor of floats. Else the message of ReadInitialWeights
// without the field's name in front. Reads only the header. Thread-safe.
absl::Status CheckWeightsFile(const std::string& path, absl::Span<const std::string> data_roots);

}  // namespace normlab::engine
