#include "server/domain/access_errors.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "server/domain/error_details.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {

absl::Status TokenMissing() {
  return MakeError(absl::StatusCode::kUnauthenticated, reason::kTokenMissing,
                   "this server takes calls with a token only; give yours with --token-file or the "
                   "variable NORMLAB_TOKEN (as metadata: authorization: Bearer TOKEN), or ask the "
                   "server's administrator for one");
}

absl::Status TokenUnknown() {
  return MakeError(absl::StatusCode::kUnauthenticated, reason::kTokenUnknown,
                   "the token is none that this server knows, or was withdrawn; check that it is "
                   "complete and of this server, or ask its administrator for a new one");
}

absl::Status RoleTooLow(absl::string_view method,
                        absl::string_view role,
                        absl::string_view needed) {
  return MakeError(absl::StatusCode::kPermissionDenied, reason::kRoleTooLow,
                   absl::StrCat("a token of the role ", role, " may not call ", method,
                                ", which needs the role ", needed,
                                "; use another token, or ask the server's administrator for one"),
                   {{"method", std::string(method)},
                    {"role", std::string(role)},
                    {"needed_role", std::string(needed)}});
}

absl::Status RateLimited(double per_second, absl::Duration retry_after) {
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kRateLimited,
                absl::StrCat("calls of one owner are limited to ", per_second,
                             " a second here; wait a little and go on more slowly"),
                {{"requests_per_second", absl::StrCat(per_second)}});
  AddRetryInfo(status, retry_after);
  return status;
}

absl::Status TooManyStreams(int limit, absl::Duration retry_after) {
  absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, reason::kTooManyStreams,
                absl::StrCat("one owner may have ", limit,
                             " streams open at once, and this one has; end some and try again"),
                {{"streams_per_owner", absl::StrCat(limit)}});
  AddRetryInfo(status, retry_after);
  return status;
}

absl::Status MalformedRequest(absl::string_view method) {
  return MakeError(
      absl::StatusCode::kInvalidArgument, reason::kMalformedRequest,
      absl::StrCat("the request is not a message that ", method,
                   " takes: damaged, nested more than 100 deep, or with text that is not "
                   "UTF-8; make it with this version's proto files"),
      {{"method", std::string(method)}});
}

absl::Status UnknownMethod(absl::string_view method) {
  return MakeError(
      absl::StatusCode::kUnimplemented, reason::kUnknownMethod,
      absl::StrCat("this server has no method ", QuotedForMessage(method),
                   "; compare the versions of client and server (normlab version), and "
                   "use reflection to see what it has"));
}

}  // namespace normlab::server
