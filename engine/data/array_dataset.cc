#include "engine/data/array_dataset.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/data/dataset_format.h"
#include "engine/spec/limits.h"

namespace normlab::engine {
namespace {

absl::Status Wrong(const Array& array, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(array.name, " ", problem));
}

std::string ShapeText(const Array& array) {
  return absl::StrCat(DimsText(array.dims), " of ", ElementName(array.type));
}

// The shape of an example: channels, height, width, dense and floats.
absl::StatusOr<DatasetShape> CheckInputs(const Array& x) {
  if (x.type != ElementType::kU8 && !IsFloat(x.type)) {
    return Wrong(x, absl::StrCat("is ", ShapeText(x),
                                 ", but inputs must be uint8 or floats; convert it, for example "
                                 "with astype('float32')"));
  }
  if (x.dims.size() < 2 || x.dims.size() > 4) {
    return Wrong(x, absl::StrCat("is ", ShapeText(x),
                                 ", but inputs must be [N, D], [N, H, W] or [N, C, H, W]; reshape "
                                 "it"));
  }
  if (x.dims[0] < 1 || x.dims[0] > kMaxExamples) {
    return Wrong(x, absl::StrCat("is ", ShapeText(x), ", but from 1 to ", kMaxExamples,
                                 " examples are possible; save it with examples first"));
  }
  DatasetShape shape;
  shape.dense = x.dims.size() == 2;
  shape.floats = IsFloat(x.type);
  const int64_t channels = x.dims.size() == 3 ? 1 : x.dims[1];
  const int64_t height = shape.dense ? 1 : x.dims[x.dims.size() - 2];
  const int64_t width = shape.dense ? 1 : x.dims[x.dims.size() - 1];
  const int64_t most_channels = shape.dense ? kMaxFeatures : kMaxChannels;
  if (std::min({channels, height, width}) < 1 || channels > most_channels ||
      std::max(height, width) > kMaxImageSide) {
    return Wrong(x, absl::StrCat("is ", ShapeText(x), ", but an example has from 1 to ",
                                 shape.dense ? absl::StrCat(kMaxFeatures, " features")
                                             : absl::StrCat(kMaxChannels, " channels and sides to ",
                                                            kMaxImageSide),
                                 "; reshape or shrink it"));
  }
  shape.channels = static_cast<int32_t>(channels);
  shape.height = static_cast<int32_t>(height);
  shape.width = static_cast<int32_t>(width);
  return shape;
}

// Targets of an example: 0 for classes.
absl::StatusOr<int32_t> CheckTargets(const Array& y) {
  const size_t rank = y.dims.size();
  if (!IsFloat(y.type)) {
    return rank == 1 ? absl::StatusOr<int32_t>(0)
                     : Wrong(y, absl::StrCat("is ", ShapeText(y),
                                             ", but classes must be integers [N]; reshape it, or "
                                             "give floats for regression"));
  }
  const int64_t targets = rank == 2 ? y.dims[1] : 1;
  if (rank < 1 || rank > 2 || targets < 1 || targets > kMaxFeatures) {
    return Wrong(y, absl::StrCat("is ", ShapeText(y),
                                 ", but targets must be floats [N] or [N, T] with T from 1 to ",
                                 kMaxFeatures, ", or integers [N] for classes; reshape it"));
  }
  return static_cast<int32_t>(targets);
}

// Runs `check` on an array that was read.
template <typename Check>
auto Checked(const ArrayPart& part, const Check& check, DataProblems& problems)
    -> std::optional<typename decltype(check(*part.array))::value_type> {
  if (!part.array.ok()) {
    problems.Add(part.field, part.array.status());
    return std::nullopt;
  }
  auto result = check(*part.array);
  if (!result.ok()) {
    problems.Add(part.field, result.status());
    return std::nullopt;
  }
  return *std::move(result);
}

// `what`: the examples of both arrays of a part belong together.
void CheckCounts(const ArrayPart& x, const ArrayPart& y, DataProblems& problems) {
  if (x.array->dims[0] != y.array->dims[0]) {
    problems.Add(y.field, absl::StrCat(y.array->name, " has ", y.array->dims[0], " targets, but ",
                                       x.array->name, " has ", x.array->dims[0],
                                       " examples; use two arrays that belong together"));
  }
}

// A class that no training example has cannot be learned; mostly the labels of the two sets are
// numbered differently.
void CheckTestClasses(const DecodedDataset& data,
                      const std::string& field,
                      DataProblems& problems) {
  const std::vector<int32_t>& labels = data.test.labels;
  std::vector<bool> trained(static_cast<size_t>(data.shape.classes), false);
  for (const int32_t label : data.train.labels) {
    trained[static_cast<size_t>(label)] = true;
  }
  const auto foreign = std::find_if(labels.begin(), labels.end(), [&trained](int32_t label) {
    return !trained[static_cast<size_t>(label)];
  });
  if (foreign != labels.end()) {
    problems.Add(field, absl::StrCat("has class ", *foreign, " at index ", foreign - labels.begin(),
                                     ", which no training example has; number the classes of both "
                                     "alike, or leave those examples out"));
  }
}

template <typename Convert, typename Values>
void ConvertTo(ArrayPart& part, const Convert& convert, Values& values, DataProblems& problems) {
  auto converted = convert(std::move(*part.array));
  if (converted.ok()) {
    values = *std::move(converted);
  } else {
    problems.Add(part.field, converted.status());
  }
}

void ConvertPart(ArrayPart& x,
                 ArrayPart& y,
                 const DatasetShape& shape,
                 DecodedPart& to,
                 DataProblems& problems) {
  if (shape.floats) {
    ConvertTo(x, ToFloats, to.floats, problems);
  } else {
    to.bytes = std::move(x.array->bytes);
  }
  if (shape.targets > 0) {
    ConvertTo(y, ToFloats, to.targets, problems);
  } else {
    ConvertTo(y, ToLabels, to.labels, problems);
  }
}

}  // namespace

std::optional<DecodedDataset> CombineArrays(ArrayParts parts, DataProblems& problems) {
  const auto train = Checked(parts.x_train, CheckInputs, problems);
  const auto train_targets = Checked(parts.y_train, CheckTargets, problems);
  const auto test = Checked(parts.x_test, CheckInputs, problems);
  const auto test_targets = Checked(parts.y_test, CheckTargets, problems);
  if (train && test && *train != *test) {
    problems.Add(
        parts.x_test.field,
        absl::StrCat(parts.x_test.array->name, " is ", ShapeText(*parts.x_test.array), ", but ",
                     parts.x_train.array->name, " is ", ShapeText(*parts.x_train.array),
                     "; examples of both must have one shape, and both be uint8 or "
                     "floats"));
  }
  if (train_targets && test_targets && *train_targets != *test_targets) {
    problems.Add(
        parts.y_test.field,
        absl::StrCat(parts.y_test.array->name, " is ", ShapeText(*parts.y_test.array), ", but ",
                     parts.y_train.array->name, " is ", ShapeText(*parts.y_train.array),
                     "; both must be integers [N], or floats of one width"));
  }
  if (train && train_targets) {
    CheckCounts(parts.x_train, parts.y_train, problems);
  }
  if (test && test_targets) {
    CheckCounts(parts.x_test, parts.y_test, problems);
  }
  if (!problems.violations.empty()) {
    return std::nullopt;
  }

  DecodedDataset data;
  data.shape = *train;
  data.shape.targets = *train_targets;
  data.shape.classes = *train_targets > 0 ? 0 : 1;  // counted below
  data.shape.train_examples = static_cast<int32_t>(parts.x_train.array->dims[0]);
  data.shape.test_examples = static_cast<int32_t>(parts.x_test.array->dims[0]);
  if (!dataset_format::IsPlausible(data.shape)) {
    problems.Add(parts.x_train.field,
                 absl::StrCat("is a data set of ", DecodedBytes(data.shape), " bytes, but at most ",
                              kMaxDatasetBytes, " are allowed; use fewer examples"));
    return std::nullopt;
  }
  ConvertPart(parts.x_train, parts.y_train, data.shape, data.train, problems);
  ConvertPart(parts.x_test, parts.y_test, data.shape, data.test, problems);
  if (data.shape.targets == 0) {
    for (const DecodedPart* part : {&data.train, &data.test}) {
      for (const int32_t label : part->labels) {
        data.shape.classes = std::max(data.shape.classes, label + 1);
      }
    }
    if (problems.violations.empty()) {
      CheckTestClasses(data, parts.y_test.field, problems);
    }
    if (problems.violations.empty() && data.shape.classes < 2) {
      problems.Add(parts.y_train.field,
                   absl::StrCat("has no class but 0; number the classes 0, 1, ..., or give floats "
                                "for regression"));
    }
  }
  if (!problems.violations.empty()) {
    return std::nullopt;
  }
  return data;
}

}  // namespace normlab::engine
