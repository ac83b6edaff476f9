#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// Errors of callers who may not, may not now, or do not speak the protocol. As server/domain/errors.h.
namespace normlab::server {

namespace reason {
inline constexpr absl::string_view kTokenMissing = "TOKEN_MISSING";
inline constexpr absl::string_view kTokenUnknown = "TOKEN_UNKNOWN";
inline constexpr absl::string_view kRoleTooLow = "ROLE_TOO_LOW";
inline constexpr absl::string_view kRateLimited = "RATE_LIMITED";
inline constexpr absl::string_view kTooManyStreams = "TOO_MANY_STREAMS";
inline constexpr absl::string_view kMalformedRequest = "MALFORMED_REQUEST";
inline constexpr absl::string_view kUnknownMethod = "UNKNOWN_METHOD";
}  // namespace reason

// UNAUTHENTICATED: the call has no token.
absl::Status TokenMissing();
// UNAUTHENTICATED: the token is none of the server's, or not any more.
absl::Status TokenUnknown();
// PERMISSION_DENIED: callers of this role may not call the method; `needed` is the least that may.
absl::Status RoleTooLow(absl::string_view method, absl::string_view role, absl::string_view needed);
// RESOURCE_EXHAUSTED with RetryInfo: the owner's calls come too fast.
absl::Status RateLimited(double per_second, absl::Duration retry_after);
// RESOURCE_EXHAUSTED with RetryInfo: the owner has this many streams open.
absl::Status TooManyStreams(int limit, absl::Duration retry_after);
// INVALID_ARGUMENT: the bytes are no message of the method's type.
absl::Status MalformedRequest(absl::string_view method);
// UNIMPLEMENTED: no service here has this method ("/package.Service/Method").
absl::Status UnknownMethod(absl::string_view method);

}  // namespace normlab::server
