#include <string>

#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr Checker::RealRange kNotNegative = {.minimum = 0, .maximum = kMaxReal};
// [0, 1): averages that forget, and momentum that dies away.
constexpr Checker::RealRange kBelowOne = {.minimum = 0, .maximum = 1, .open_maximum = true};
constexpr Checker::RealRange kEpsilon = {.minimum = kMinOptimizerEpsilon, .maximum = kMaxReal};
constexpr Checker::RealRange kPositive = {.minimum = 0, .open_minimum = true, .maximum = kMaxReal};

constexpr absl::string_view kMomentumHint = "usual values are 0 and 0.9";
constexpr absl::string_view kDecayHint = "usual values are 0 and 1e-4";
constexpr absl::string_view kEpsilonHint =
    "it keeps parameters without a gradient from a division of 0 by 0; the default is 1e-8";

void ValidateSgd(const v1::Sgd& sgd, Checker& checker) {
  if (sgd.has_learning_rate()) {
    checker.Real("optimizer.sgd.learning_rate", sgd.learning_rate(), kNotNegative,
                 "the default is 0.1");
  }
  checker.Real("optimizer.sgd.momentum", sgd.momentum(), kBelowOne, kMomentumHint);
  checker.Real("optimizer.sgd.weight_decay", sgd.weight_decay(), kNotNegative, kDecayHint);
  if (sgd.nesterov() && sgd.momentum() == 0) {
    checker.Fail("optimizer.sgd.nesterov",
                 "is true while momentum is 0, of which there is no Nesterov form; give "
                 "optimizer.sgd.momentum, for example 0.9, or leave nesterov out");
  }
}

// What Adam and AdamW have in common; `field` is "optimizer.adam" or "optimizer.adamw".
template <typename Message>
void ValidateAdam(const std::string& field, const Message& adam, Checker& checker) {
  if (adam.has_learning_rate()) {
    checker.Real(field + ".learning_rate", adam.learning_rate(), kNotNegative,
                 "the default is 0.001");
  }
  if (adam.has_beta1()) {
    checker.Real(field + ".beta1", adam.beta1(), kBelowOne, "the default is 0.9");
  }
  if (adam.has_beta2()) {
    checker.Real(field + ".beta2", adam.beta2(), kBelowOne, "the default is 0.999");
  }
  if (adam.has_epsilon()) {
    checker.Real(field + ".epsilon", adam.epsilon(), kEpsilon, kEpsilonHint);
  }
  checker.Real(field + ".weight_decay", adam.weight_decay(), kNotNegative, kDecayHint);
}

void ValidateRmsProp(const v1::RmsProp& rmsprop, Checker& checker) {
  if (rmsprop.has_learning_rate()) {
    checker.Real("optimizer.rmsprop.learning_rate", rmsprop.learning_rate(), kNotNegative,
                 "the default is 0.01");
  }
  if (rmsprop.has_alpha()) {
    checker.Real("optimizer.rmsprop.alpha", rmsprop.alpha(), kBelowOne, "the default is 0.99");
  }
  if (rmsprop.has_epsilon()) {
    checker.Real("optimizer.rmsprop.epsilon", rmsprop.epsilon(), kEpsilon, kEpsilonHint);
  }
  checker.Real("optimizer.rmsprop.momentum", rmsprop.momentum(), kBelowOne, kMomentumHint);
  checker.Real("optimizer.rmsprop.weight_decay", rmsprop.weight_decay(), kNotNegative, kDecayHint);
}

void ValidateClipping(const v1::GradientClipping& clipping, Checker& checker) {
  constexpr absl::string_view kHint = "leave clipping out to use the gradient as it is";
  switch (clipping.kind_case()) {
    case v1::GradientClipping::kGlobalNorm:
      checker.Real("optimizer.clipping.global_norm", clipping.global_norm(), kPositive, kHint);
      break;
    case v1::GradientClipping::kValue:
      checker.Real("optimizer.clipping.value", clipping.value(), kPositive, kHint);
      break;
    case v1::GradientClipping::KIND_NOT_SET:
      break;
  }
}

}  // namespace

void ValidateOptimizer(const v1::Optimizer& optimizer, Checker& checker) {
  switch (optimizer.kind_case()) {
    case v1::Optimizer::kSgd:
      ValidateSgd(optimizer.sgd(), checker);
      break;
    case v1::Optimizer::kAdam:
      ValidateAdam("optimizer.adam", optimizer.adam(), checker);
      break;
    case v1::Optimizer::kAdamw:
      ValidateAdam("optimizer.adamw", optimizer.adamw(), checker);
      break;
    case v1::Optimizer::kRmsprop:
      ValidateRmsProp(optimizer.rmsprop(), checker);
      break;
    case v1::Optimizer::KIND_NOT_SET:
      break;  // the default: SGD
  }
  ValidateClipping(optimizer.clipping(), checker);
}

}  // namespace normlab::engine
