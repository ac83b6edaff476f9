#include "engine/spec/run_length.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/spec/resolve_parts.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kMnistShape = {.channels = 1,
                                      .height = 28,
                                      .width = 28,
                                      .classes = 10,
                                      .train_examples = 60000,
                                      .test_examples = 10000};
constexpr DatasetShape kCifar10Shape = {.channels = 3,
                                        .height = 32,
                                        .width = 32,
                                        .classes = 10,
                                        .train_examples = 50000,
                                        .test_examples = 10000};
constexpr DatasetShape kCifar100Shape = {.channels = 3,
                                         .height = 32,
                                         .width = 32,
                                         .classes = 100,
                                         .train_examples = 50000,
                                         .test_examples = 10000};

DatasetShape ShapeOf(const v1::GaussianClasses& set) {
  const bool dense = set.dims_size() == 1;
  return {.channels = set.dims(0),
          .height = dense ? 1 : set.dims(1),
          .width = dense ? 1 : set.dims(2),
          .classes = set.classes(),
          .train_examples = set.train_examples(),
          .test_examples = set.test_examples(),
          .dense = dense,
          .floats = true};
}

DatasetShape ShapeOf(const v1::LinearRegression& set) {
  return {.channels = set.inputs(),
          .height = 1,
          .width = 1,
          .train_examples = set.train_examples(),
          .test_examples = set.test_examples(),
          .targets = set.outputs(),
          .dense = true,
          .floats = true};
}

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

void CheckAugmentation(const v1::Augmentation& augmentation,
                       const DatasetShape& shape,
                       std::vector<Violation>& violations) {
  const auto set_fields = {std::pair{"pad_and_crop", augmentation.pad_and_crop()},
                           std::pair{"flip", int32_t{augmentation.flip()}},
                           std::pair{"cutout", augmentation.cutout()}};
  for (const auto& [name, value] : set_fields) {
    if (value != 0 && shape.dense) {
      violations.push_back({absl::StrCat("data.augmentation.", name),
                            absl::StrCat("changes images, but examples of this data set are ",
                                         shape.channels, " features; leave it out")});
    }
  }
  if (shape.dense) {
    return;
  }
  const int32_t side = std::min(shape.height, shape.width);
  if (augmentation.pad_and_crop() >= side) {
    violations.push_back(
        {"data.augmentation.pad_and_crop",
         absl::StrCat("is ", augmentation.pad_and_crop(), ", but images are ", shape.height, "x",
                      shape.width, ", so a crop could miss the image; use less than ", side)});
  }
  if (augmentation.cutout() > side) {
    violations.push_back({"data.augmentation.cutout",
                          absl::StrCat("is ", augmentation.cutout(), ", but images are ",
                                       shape.height, "x", shape.width, "; use at most ", side)});
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
  v1::Data data = spec.data();
  Checker checker;
  ValidateSource(data, checker);
  if (!checker.Take().empty()) {
    return std::nullopt;
  }
  ResolveData(data);
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
    case v1::Data::kMnist:
      return kMnistShape;
    case v1::Data::kCifar10:
      return kCifar10Shape;
    case v1::Data::kCifar100:
      return kCifar100Shape;
    case v1::Data::kGaussianClasses:
      return ShapeOf(data.gaussian_classes());
    case v1::Data::kLinearRegression:
      return ShapeOf(data.linear_regression());
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
  if (shape.floats &&
      (data.scaling() == v1::Scaling::UNIT || data.scaling() == v1::Scaling::SYMMETRIC)) {
    violations.push_back(
        {"data.scaling", absl::StrCat("is ", v1::Scaling::Kind_Name(data.scaling()),
                                      ", which is for bytes, but the values of "
                                      "this data set are floats; use STANDARDIZE "
                                      "or NONE")});
  }
  CheckAugmentation(data.augmentation(), shape, violations);
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
