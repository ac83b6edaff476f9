#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

// The folder a data set has when none is named.
template <typename Source>
void DefaultPath(const char* path, Source& source) {
  if (source.path().empty()) {
    source.set_path(path);
  }
}

void ResolveGaussianClasses(v1::GaussianClasses& set) {
  constexpr int32_t kClasses = 10;
  constexpr int32_t kFeatures = 100;
  constexpr int32_t kTrainExamples = 10000;
  constexpr int32_t kTestExamples = 2000;
  constexpr double kSeparation = 3;
  if (!set.has_classes()) {
    set.set_classes(kClasses);
  }
  if (set.dims().empty()) {
    set.add_dims(kFeatures);
  }
  if (!set.has_train_examples()) {
    set.set_train_examples(kTrainExamples);
  }
  if (!set.has_test_examples()) {
    set.set_test_examples(kTestExamples);
  }
  if (!set.has_separation()) {
    set.set_separation(kSeparation);
  }
}

void ResolveLinearRegression(v1::LinearRegression& set) {
  constexpr int32_t kWidth = 10;
  constexpr int32_t kExamples = 1000;
  if (!set.has_inputs()) {
    set.set_inputs(kWidth);
  }
  if (!set.has_outputs()) {
    set.set_outputs(kWidth);
  }
  if (!set.has_train_examples()) {
    set.set_train_examples(kExamples);
  }
  if (!set.has_test_examples()) {
    set.set_test_examples(kExamples);
  }
}

}  // namespace

void ResolveData(v1::Data& data) {
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      DefaultPath("fashion-mnist", *data.mutable_fashion_mnist());
      break;
    case v1::Data::kMnist:
      DefaultPath("mnist", *data.mutable_mnist());
      break;
    case v1::Data::kCifar10:
      DefaultPath("cifar-10-batches-bin", *data.mutable_cifar10());
      break;
    case v1::Data::kCifar100:
      DefaultPath("cifar-100-binary", *data.mutable_cifar100());
      break;
    case v1::Data::kGaussianClasses:
      ResolveGaussianClasses(*data.mutable_gaussian_classes());
      break;
    case v1::Data::kLinearRegression:
      ResolveLinearRegression(*data.mutable_linear_regression());
      break;
    default:
      break;
  }
  if (data.scaling() == v1::Scaling::KIND_UNSPECIFIED) {
    // Synthetic sets are what they are said to be; anything else would change the task.
    const bool synthetic = data.has_gaussian_classes() || data.has_linear_regression();
    data.set_scaling(synthetic ? v1::Scaling::NONE : v1::Scaling::STANDARDIZE);
  }
  if (data.last_batch() == v1::LastBatch::KIND_UNSPECIFIED) {
    data.set_last_batch(v1::LastBatch::DROP);
  }
  if (!data.has_shuffle()) {
    data.set_shuffle(true);
  }
}

}  // namespace normlab::engine
