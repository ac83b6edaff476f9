#include "engine/spec/run_length.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kMnistShape = {.channels = 1,
                                      .height = 28,
                                      .width = 28,
                                      .classes = 10,
                                      .train_examples = 60000,
                                      .test_examples = 10000};

int64_t Limited(int64_t available, int64_t limit) {
  return limit > 0 ? std::min(available, limit) : available;
}

void CheckLimit(absl::string_view field,
                absl::string_view set,
                int64_t limit,
                int64_t available,
                std::vector<Violation>& violations) {
  if (limit > available) {
    violations.push_back(
        {std::string(field), absl::StrCat("is ", limit, ", but the ", set, " set has ", available,
                                          " examples; leave it out to use all of them")});
  }
}

}  // namespace

std::vector<int64_t> InputDims(const DatasetShape& shape) {
  if (shape.dense) {
    return {shape.channels};
  }
  return {shape.channels, shape.height, shape.width};
}

int64_t DecodedBytes(const DatasetShape& shape) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t example = shape.example_values() * (shape.floats ? kFloat : 1) +
                          std::max<int64_t>(shape.targets, 1) * kFloat;
  return example * (int64_t{shape.train_examples} + shape.test_examples);
}

std::optional<DatasetShape> KnownDatasetShape(const v1::JobSpec& spec) {
  switch (spec.data().source_case()) {
    case v1::Data::kFashionMnist:
    case v1::Data::kMnist:
      return kMnistShape;
    default:
      break;
  }
  return std::nullopt;
}

RunLength ComputeRunLength(const v1::JobSpec& resolved, const DatasetShape& shape) {
  RunLength length;
  length.train_examples = Limited(shape.train_examples, resolved.data().train_limit());
  length.test_examples = Limited(shape.test_examples, resolved.data().test_limit());
  const int64_t batch_size = std::max(resolved.batch_size(), 1);
  length.steps_per_epoch = length.train_examples / batch_size;
  if (resolved.data().last_batch() == v1::LastBatch::KEEP) {
    length.last_batch_size = length.train_examples % batch_size;
    length.steps_per_epoch += length.last_batch_size > 0 ? 1 : 0;
  }
  if (length.steps_per_epoch == 0) {
    return length;
  }
  length.total_steps = resolved.budget_case() == v1::JobSpec::kSteps
                           ? resolved.steps()
                           : resolved.epochs() * length.steps_per_epoch;
  length.total_epochs = (length.total_steps + length.steps_per_epoch - 1) / length.steps_per_epoch;
  return length;
}

std::vector<Violation> CheckData(const v1::JobSpec& resolved, const DatasetShape& shape) {
  std::vector<Violation> violations;
  if (shape.train_examples <= 0 || shape.test_examples <= 0) {
    violations.push_back(
        {"data", absl::StrCat("has ", shape.train_examples, " training and ", shape.test_examples,
                              " test examples; name a data set with some of both")});
    return violations;
  }
  const v1::Data& data = resolved.data();
  CheckLimit("data.train_limit", "training", data.train_limit(), shape.train_examples, violations);
  CheckLimit("data.test_limit", "test", data.test_limit(), shape.test_examples, violations);
  const RunLength length = ComputeRunLength(resolved, shape);
  if (data.last_batch() != v1::LastBatch::KEEP && resolved.batch_size() > length.train_examples) {
    violations.push_back(
        {"batch_size",
         absl::StrCat("is ", resolved.batch_size(), ", but only ", length.train_examples,
                      " training examples are used and an incomplete last batch is dropped, so no "
                      "step would be left; use at most ",
                      length.train_examples, ", or data.last_batch KEEP")});
  }
  return violations;
}

}  // namespace normlab::engine
