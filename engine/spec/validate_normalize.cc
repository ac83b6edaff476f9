#include "engine/spec/validate_normalize.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "engine/spec/checker.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

std::string DimsText(const v1::Tensor& tensor) {
  return absl::StrCat("[", absl::StrJoin(tensor.dims(), ", "), "]");
}

// Whether the sizes are at least 1 and their product is the number of values.
void CheckSizes(const std::string& field, const v1::Tensor& tensor, Checker& checker) {
  int64_t product = 1;
  for (const int64_t size : tensor.dims()) {
    if (size < 1) {
      checker.Fail(absl::StrCat(field, ".dims"),
                   absl::StrCat("is ", DimsText(tensor), "; give sizes of at least 1"));
      return;
    }
    if (__builtin_mul_overflow(product, size, &product)) {
      product = -1;  // of no tensor that could be sent
      break;
    }
  }
  if (product != tensor.values_size()) {
    checker.Fail(absl::StrCat(field, ".values"),
                 absl::StrCat("has ", tensor.values_size(), " values, but dims are ",
                              DimsText(tensor), "; give one value per place, in C order"));
  }
}

bool SameDims(const v1::Tensor& a, const v1::Tensor& b) {
  return a.dims_size() == b.dims_size() &&
         std::equal(a.dims().begin(), a.dims().end(), b.dims().begin());
}

// Statistics are sums of squares in float32, over runs of 32 values: beyond this they overflow, and
// dividing by an infinite deviation would answer plausible zeros.
constexpr float kLargestMagnitude = 1e18F;

// Infinities and NaN are let through: what becomes of them can be seen.
void CheckMagnitudes(const v1::NormalizeRequest& request, Checker& checker) {
  const v1::Normalizer& normalizer = request.normalizer();
  if (normalizer.kind_case() == v1::Normalizer::KIND_NOT_SET || normalizer.has_none() ||
      normalizer.has_dyt() || normalizer.has_frozen_batch()) {
    return;
  }
  for (int i = 0; i < request.input().values_size(); ++i) {
    const float value = request.input().values(i);
    if (std::isfinite(value) && std::abs(value) > kLargestMagnitude) {
      checker.Fail(
          "input.values",
          absl::StrCat("has ", value, " at index ", i, ", whose square overflows float32; ",
                       "scale the input to magnitudes of at most ", kLargestMagnitude));
      return;
    }
  }
}

// The settings of the normalizer, by the rules of a job's.
void CheckNormalizer(const v1::NormalizeRequest& request, Checker& checker) {
  const v1::Tensor& input = request.input();
  // In evaluation there are no parts of a batch that would have to divide it.
  const bool has_batch = input.dims_size() > 0 && request.statistics() != v1::Statistics::INFERENCE;
  ValidateNormalizer("normalizer", request.normalizer(),
                     has_batch ? std::max<int64_t>(input.dims(0), 0) : 0, checker);
  v1::JobSpec spec;
  *spec.mutable_normalization() = request.normalizer();
  Checker unknown;
  ValidateUnknownFields(spec, unknown);
  for (const Violation& violation : unknown.Take()) {
    absl::string_view rest = violation.field;
    absl::ConsumePrefix(&rest, "normalization");
    checker.Fail(absl::StrCat("normalizer", rest), violation.description);
  }
}

}  // namespace

std::string ParameterField(absl::string_view name) {
  const std::string quoted = Quoted(name);
  const bool plain = quoted.size() == name.size() + 2;
  return absl::StrCat("parameters[", plain ? std::string(name) : quoted, "]");
}

std::string FindTooLargeTensor(const v1::NormalizeRequest& request) {
  const auto too_large = [](const v1::Tensor& tensor) {
    return tensor.values_size() > kMaxTensorValues;
  };
  if (too_large(request.input())) {
    return "input";
  }
  if (too_large(request.output_gradient())) {
    return "output_gradient";
  }
  for (const auto& [name, tensor] : request.parameters()) {
    if (too_large(tensor)) {
      return ParameterField(name);
    }
  }
  return "";
}

std::vector<Violation> ValidateNormalize(const v1::NormalizeRequest& request) {
  Checker checker;
  CheckNormalizer(request, checker);
  if (!request.has_input()) {
    checker.Fail("input", "is missing; give the tensor to normalize");
  } else if (request.input().dims_size() != 2 && request.input().dims_size() != 4) {
    checker.Fail("input.dims", absl::StrCat("is ", DimsText(request.input()),
                                            "; give [N, D] or [N, C, H, W] (of weights [O, I] or "
                                            "[O, I, KH, KW])"));
  } else {
    CheckSizes("input", request.input(), checker);
    CheckMagnitudes(request, checker);
  }
  if (request.has_output_gradient()) {
    if (!SameDims(request.output_gradient(), request.input())) {
      checker.Fail("output_gradient.dims",
                   absl::StrCat("is ", DimsText(request.output_gradient()), ", but the output is ",
                                DimsText(request.input()), " as the input; give the same"));
    } else {
      CheckSizes("output_gradient", request.output_gradient(), checker);
    }
  }
  // The order of a protobuf map is random; violations come in the order of names.
  std::map<std::string, const v1::Tensor*> parameters;
  for (const auto& [name, tensor] : request.parameters()) {
    parameters[name] = &tensor;
  }
  for (const auto& [name, tensor] : parameters) {
    CheckSizes(ParameterField(name), *tensor, checker);
  }
  checker.Enum("statistics", request.statistics(), v1::Statistics::Kind_descriptor());
  if (request.step() < 0) {
    checker.Fail("step", absl::StrCat("is ", request.step(), "; count steps from 0"));
  }
  return checker.Take();
}

}  // namespace normlab::engine
