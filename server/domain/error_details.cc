#include "server/domain/error_details.h"

#include <algorithm>
#include <cstdint>

namespace normlab::server {

absl::Status MakeError(absl::StatusCode code,
                       absl::string_view error_reason,
                       absl::string_view message,
                       const ErrorMetadata& metadata) {
  absl::Status status(code, message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(error_reason));
  info.set_domain(std::string(kErrorDomain));
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  AddDetail(status, info);
  return status;
}

void AddRetryInfo(absl::Status& status, absl::Duration retry_after) {
  const absl::Duration wait = std::max(retry_after, absl::ZeroDuration());
  const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1)));
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(milliseconds / 1000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds % 1000 * 1'000'000));
  AddDetail(status, retry);
}

void AddResourceInfo(absl::Status& status, absl::string_view type, absl::string_view name) {
  google::rpc::ResourceInfo resource;
  resource.set_resource_type(std::string(type));
  resource.set_resource_name(std::string(name));
  AddDetail(status, resource);
}

}  // namespace normlab::server
