#include "server/api/inspect_data.h"

#include "engine/spec/resolve.h"
#include "server/api/admission.h"
#include "server/domain/errors.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr absl::Duration kDrainRetry = absl::Seconds(1);
constexpr absl::Duration kInspectionRetry = absl::Seconds(5);

}  // namespace

std::optional<v1::HelperRequest> InspectionOf(const v1::JobSpec& spec,
                                              const std::vector<engine::Violation>& violations,
                                              const ApiOptions& options) {
  if (!spec.has_data() || spec.data().source_case() == 0 || Concerns(violations, "data")) {
    return std::nullopt;
  }
  const v1::JobSpec resolved = engine::Resolve(spec);
  v1::HelperRequest request;
  v1::InspectDataRequest& inspect = *request.mutable_inspect_data();
  *inspect.mutable_data() = resolved.data();
  if (spec.has_initial_weights() && !Concerns(violations, "initial_weights")) {
    *inspect.mutable_initial_weights() = spec.initial_weights();
  }
  if (!Concerns(violations, "precision")) {
    inspect.set_precision(spec.precision());
  }
  // Only for comparing weights with the network; without it questions about the same data are equal.
  if (violations.empty() && inspect.has_initial_weights()) {
    *inspect.mutable_resolved_spec() = resolved;
  }
  inspect.mutable_data_roots()->Add(options.data_roots.begin(), options.data_roots.end());
  // A synthetic set is not made before its job starts: whether a job is accepted takes its shape only,
  // which follows from the spec. Nobody waits for the data of others then.
  const v1::Data& data = resolved.data();
  if (!data.has_gaussian_classes() && !data.has_linear_regression()) {
    inspect.set_cache_folder(options.cache_folder);
  } else if (!inspect.has_initial_weights() && inspect.precision() != v1::Precision::BF16) {
    return std::nullopt;
  }
  return request;
}

absl::Status InspectionFailed(const absl::Status& failure, const ApiOptions& options) {
  switch (failure.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return DataNotReadInTime(options.inspect_timeout);
    case absl::StatusCode::kResourceExhausted:
      return TooManyInspections(kInspectionRetry);
    case absl::StatusCode::kUnavailable:
      return ShuttingDown(kDrainRetry);
    default:
      spdlog::warn("looking at data: {}", std::string(failure.message()));
      return HelperCrashed(failure.message());
  }
}

}  // namespace normlab::server
