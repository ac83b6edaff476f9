#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/graph/graph.h"

#include "normlab/v1/worker.pb.h"

// What the parts of Normalize share. Internal to engine/worker; thread-safe.
namespace normlab::engine {

// Adds a violation of the request; `field` is a path below it.
void Fail(v1::NormalizeResult& result, std::string field, std::string description);

void Put(absl::Span<const int64_t> dims, absl::Span<const float> values, v1::Tensor& tensor);
// The same, rounded.
void Put(absl::Span<const int64_t> dims, absl::Span<const double> values, v1::Tensor& tensor);
// `values` has as many places as the tensor.
void Take(const v1::Tensor& tensor, absl::Span<float> values);
absl::Span<const float> ValuesOf(const v1::Tensor& tensor);

// "[2, 3]"
std::string DimsText(absl::Span<const int64_t> dims);

// Whether shapes agree but for sizes of 1: a scalar may come as [] or [1], gains as [O] or [O, 1, 1,
// 1].
bool SameShape(absl::Span<const int64_t> a, absl::Span<const int64_t> b);

// Violations for a parameter that the normalizer does not have (`known`: the names of those it has)
// and for one of another shape.
void FailUnknown(absl::string_view name,
                 absl::string_view kind,
                 absl::string_view known,
                 v1::NormalizeResult& result);
bool CheckShape(absl::string_view name,
                const v1::Tensor& tensor,
                absl::Span<const int64_t> wanted,
                absl::string_view kind,
                v1::NormalizeResult& result);

}  // namespace normlab::engine
