#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/spec/limits.h"
#include "engine/spec/resolve_parts.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr int64_t kMaxInt32 = 0x7FFFFFFF;

void ValidateArrays(const v1::ArrayFiles& arrays, Checker& checker) {
  const std::array<std::pair<const char*, const std::string*>, 4> parts = {
      {{"x_train", &arrays.x_train()},
       {"y_train", &arrays.y_train()},
       {"x_test", &arrays.x_test()},
       {"y_test", &arrays.y_test()}}};
  std::vector<std::string> given;
  std::vector<std::string> missing;
  for (const auto& [name, path] : parts) {
    (path->empty() ? missing : given).emplace_back(name);
    checker.Path(absl::StrCat("data.arrays.", name), *path);
  }
  checker.Path("data.arrays.path", arrays.path());
  if (arrays.path().empty() && given.empty()) {
    checker.Fail("data.arrays",
                 "names no file; give path (a .npz or .safetensors file with x_train, y_train, "
                 "x_test and y_test), or the four .npy files x_train, y_train, x_test and y_test");
  } else if (!arrays.path().empty() && !given.empty()) {
    checker.Fail("data.arrays.path",
                 absl::StrCat("is ", Quoted(arrays.path()), " while ", absl::StrJoin(given, ", "),
                              given.size() == 1 ? " is" : " are",
                              " given as well; keep the one file or the four"));
  } else if (arrays.path().empty() && !missing.empty()) {
    for (const std::string& name : missing) {
      checker.Fail(absl::StrCat("data.arrays.", name),
                   "is missing; give all four of x_train, y_train, x_test and y_test, or one path "
                   "to a file that has them");
    }
  }
}

struct SyntheticSizes {
  int64_t train_examples;
  int64_t test_examples;
  int64_t values;  // of an example, targets included
};

void ValidateSizes(const std::string& field, const SyntheticSizes& sizes, Checker& checker) {
  checker.Range(absl::StrCat(field, ".train_examples"), sizes.train_examples, 1, kMaxExamples,
                "give the number of training examples to draw");
  checker.Range(absl::StrCat(field, ".test_examples"), sizes.test_examples, 1, kMaxExamples,
                "give the number of test examples to draw");
  // In double: a product of sizes that were refused above may be anything.
  const double total =
      static_cast<double>(sizes.values) *
      (static_cast<double>(sizes.train_examples) + static_cast<double>(sizes.test_examples));
  if (total > static_cast<double>(kMaxSyntheticValues)) {
    checker.Fail(field,
                 absl::StrCat("has ", total, " values in all, but at most ", kMaxSyntheticValues,
                              " can be drawn; use fewer or smaller examples"));
  }
}

void ValidateGaussianClasses(const v1::GaussianClasses& given, Checker& checker) {
  const std::string field = "data.gaussian_classes";
  v1::Data data;
  *data.mutable_gaussian_classes() = given;
  ResolveData(data);
  const v1::GaussianClasses& set = data.gaussian_classes();
  checker.Range(absl::StrCat(field, ".classes"), set.classes(), 2, kMaxClasses,
                "give the number of classes; the default is 10");
  checker.Real(absl::StrCat(field, ".separation"), set.separation(),
               {.minimum = 0, .maximum = kMaxReal},
               "it is the distance of the class means from 0; the default is 3");
  if (set.dims_size() != 1 && set.dims_size() != 3) {
    checker.Fail(absl::StrCat(field, ".dims"),
                 absl::StrCat("has ", set.dims_size(),
                              " sizes; give one, [features], or three, [channels, height, width]"));
    return;
  }
  int64_t values = 1;
  bool possible = true;  // else their product says nothing
  for (int i = 0; i < set.dims_size(); ++i) {
    const int64_t largest = set.dims_size() == 1 ? kMaxFeatures
                            : i == 0             ? kMaxChannels
                                                 : kMaxImageSide;
    checker.Range(absl::StrCat(field, ".dims[", i, "]"), set.dims(i), 1, largest,
                  "give the size of an example");
    possible = possible && set.dims(i) >= 1 && set.dims(i) <= largest;
    values *= std::clamp<int64_t>(set.dims(i), 1, largest);
  }
  if (!possible) {
    values = 0;
  }
  if (const int64_t means = values * std::clamp<int64_t>(set.classes(), 1, kMaxClasses);
      means > kMaxSyntheticValues) {
    checker.Fail(field, absl::StrCat("has class means of ", means, " values in all, but at most ",
                                     kMaxSyntheticValues,
                                     " can be drawn; use fewer classes or smaller examples"));
  }
  ValidateSizes(field, {set.train_examples(), set.test_examples(), values}, checker);
}

void ValidateLinearRegression(const v1::LinearRegression& given, Checker& checker) {
  const std::string field = "data.linear_regression";
  v1::Data data;
  *data.mutable_linear_regression() = given;
  ResolveData(data);
  const v1::LinearRegression& set = data.linear_regression();
  checker.Range(absl::StrCat(field, ".inputs"), set.inputs(), 1, kMaxFeatures,
                "give the number of inputs; the default is 10");
  checker.Range(absl::StrCat(field, ".outputs"), set.outputs(), 1, kMaxFeatures,
                "give the number of targets; the default is 10");
  checker.Real(absl::StrCat(field, ".noise"), set.noise(), {.minimum = 0, .maximum = kMaxReal},
               "it is the standard deviation of the noise; the default is 0");
  const double operations = static_cast<double>(set.inputs()) * set.outputs() *
                            (static_cast<double>(set.train_examples()) + set.test_examples());
  if (operations > static_cast<double>(kMaxSyntheticOperations)) {
    checker.Fail(field, absl::StrCat("takes ", operations, " multiplications to make, but at most ",
                                     kMaxSyntheticOperations,
                                     " are allowed; use fewer examples, inputs or outputs"));
  }
  ValidateSizes(field,
                {set.train_examples(), set.test_examples(), int64_t{set.inputs()} + set.outputs()},
                checker);
}

void ValidateAugmentation(const v1::Augmentation& augmentation, Checker& checker) {
  checker.Range("data.augmentation.pad_and_crop", augmentation.pad_and_crop(), 0, kMaxImageSide,
                "give the zeros to pad on every side, usually 4; 0 means none");
  checker.Range("data.augmentation.cutout", augmentation.cutout(), 0, kMaxImageSide,
                "give the side of the square, usually 16 for 32x32 images; 0 means none");
}

}  // namespace

void ValidateSource(const v1::Data& data, Checker& checker) {
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      checker.Path("data.fashion_mnist.path", data.fashion_mnist().path());
      break;
    case v1::Data::kMnist:
      checker.Path("data.mnist.path", data.mnist().path());
      break;
    case v1::Data::kCifar10:
      checker.Path("data.cifar10.path", data.cifar10().path());
      break;
    case v1::Data::kCifar100:
      checker.Path("data.cifar100.path", data.cifar100().path());
      break;
    case v1::Data::kArrays:
      ValidateArrays(data.arrays(), checker);
      break;
    case v1::Data::kGaussianClasses:
      ValidateGaussianClasses(data.gaussian_classes(), checker);
      break;
    case v1::Data::kLinearRegression:
      ValidateLinearRegression(data.linear_regression(), checker);
      break;
    default:
      checker.Fail(
          "data",
          "names no data set; give for example {\"fashion_mnist\": {}}, {\"cifar10\": {}}, "
          "{\"arrays\": {\"path\": \"mine.npz\"}} or {\"gaussian_classes\": {}}");
      break;
  }
}

void ValidateData(const v1::JobSpec& spec, Checker& checker) {
  const v1::Data& data = spec.data();
  ValidateSource(data, checker);
  checker.Enum("data.scaling", data.scaling(), v1::Scaling::Kind_descriptor());
  checker.Enum("data.last_batch", data.last_batch(), v1::LastBatch::Kind_descriptor());
  checker.Range("data.train_limit", data.train_limit(), 0, kMaxInt32, "0 means all examples");
  checker.Range("data.test_limit", data.test_limit(), 0, kMaxInt32, "0 means all examples");
  ValidateAugmentation(data.augmentation(), checker);
}

}  // namespace normlab::engine
