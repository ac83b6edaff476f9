#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "server/domain/errors.h"

// How the error factories of this folder put an error together. Pure functions, thread-safe.
namespace normlab::server {

using ErrorMetadata = std::vector<std::pair<std::string, std::string>>;

// A status with a google.rpc.ErrorInfo of our domain.
absl::Status MakeError(absl::StatusCode code,
                       absl::string_view error_reason,
                       absl::string_view message,
                       const ErrorMetadata& metadata = {});

// google.rpc.RetryInfo, rounded up to whole milliseconds, so that whoever waits so long is let in.
void AddRetryInfo(absl::Status& status, absl::Duration retry_after);

// google.rpc.ResourceInfo; `type` is a message's full name.
void AddResourceInfo(absl::Status& status, absl::string_view type, absl::string_view name);

}  // namespace normlab::server
