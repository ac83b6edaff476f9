#include "engine/worker/normalize_tensors.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_normalize.h"

namespace normlab::engine {

void Fail(v1::NormalizeResult& result, std::string field, std::string description) {
  if (result.violations_size() >= kMaxViolations) {
    return;  // the answer must fit into an error
  }
  v1::SpecViolation& violation = *result.add_violations();
  violation.set_field(std::move(field));
  violation.set_description(std::move(description));
}

void Put(absl::Span<const int64_t> dims, absl::Span<const float> values, v1::Tensor& tensor) {
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.mutable_values()->Add(values.begin(), values.end());
}

void Put(absl::Span<const int64_t> dims, absl::Span<const double> values, v1::Tensor& tensor) {
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.mutable_values()->Reserve(static_cast<int>(values.size()));
  for (const double value : values) {
    tensor.add_values(static_cast<float>(value));
  }
}

void Take(const v1::Tensor& tensor, absl::Span<float> values) {
  std::copy(tensor.values().begin(), tensor.values().end(), values.begin());
}

absl::Span<const float> ValuesOf(const v1::Tensor& tensor) {
  return {tensor.values().data(), static_cast<size_t>(tensor.values_size())};
}

std::string DimsText(absl::Span<const int64_t> dims) {
  return absl::StrCat("[", absl::StrJoin(dims, ", "), "]");
}

bool SameShape(absl::Span<const int64_t> a, absl::Span<const int64_t> b) {
  const auto squeezed = [](absl::Span<const int64_t> dims) {
    Dims kept;
    std::copy_if(dims.begin(), dims.end(), std::back_inserter(kept),
                 [](int64_t size) { return size != 1; });
    return kept;
  };
  return squeezed(a) == squeezed(b);
}

void FailUnknown(absl::string_view name,
                 absl::string_view kind,
                 absl::string_view known,
                 v1::NormalizeResult& result) {
  Fail(result, ParameterField(name),
       absl::StrCat("is no tensor of ", kind, ", which has ", known.empty() ? "none" : known,
                    "; remove or rename it"));
}

bool CheckShape(absl::string_view name,
                const v1::Tensor& tensor,
                absl::Span<const int64_t> wanted,
                absl::string_view kind,
                v1::NormalizeResult& result) {
  if (SameShape(tensor.dims(), wanted)) {
    return true;
  }
  Fail(result, absl::StrCat(ParameterField(name), ".dims"),
       absl::StrCat("is ", DimsText(tensor.dims()), ", but ", kind, " of this input has ",
                    DimsText(wanted), "; give that"));
  return false;
}

}  // namespace normlab::engine
