#include "server/domain/access_errors.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

absl::Status Make(absl::StatusCode code,
                  absl::string_view error_reason,
                  absl::string_view message,
                  const std::vector<std::pair<std::string, std::string>>& metadata = {}) {
  absl::Status status(code, message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(error_reason));
  info.set_domain(std::string(kErrorDomain));
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  AddDetail(status, info);
  return status;
}

// Rounded up to whole milliseconds, so that whoever waits so long is let in.
void AddRetry(absl::Status& status, absl::Duration retry_after) {
  const int64_t milliseconds =
      absl::ToInt64Milliseconds(absl::Ceil(retry_after, absl::Milliseconds(1)));
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(milliseconds / 1000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds % 1000 * 1'000'000));
  AddDetail(status, retry);
}

}  // namespace

absl::Status TokenMissing() {
  return Make(absl::StatusCode::kUnauthenticated, reason::kTokenMissing,
              "this server takes calls with a token only; give yours with --token-file or the "
              "variable NORMLAB_TOKEN (as metadata: authorization: Bearer TOKEN), or ask the "
              "server's administrator for one");
}

absl::Status TokenUnknown() {
  return Make(absl::StatusCode::kUnauthenticated, reason::kTokenUnknown,
              "the token is none that this server knows, or was withdrawn; check that it is "
              "complete and of this server, or ask its administrator for a new one");
}

absl::Status RoleTooLow(absl::string_view method,
                        absl::string_view role,
                        absl::string_view needed) {
  return Make(absl::StatusCode::kPermissionDenied, reason::kRoleTooLow,
              absl::StrCat("a token of the role ", role, " may not call ", method,
                           ", which needs the role ", needed,
                           "; use another token, or ask the server's administrator for one"),
              {{"method", std::string(method)},
               {"role", std::string(role)},
               {"needed_role", std::string(needed)}});
}

absl::Status RateLimited(double per_second, absl::Duration retry_after) {
  absl::Status status = Make(absl::StatusCode::kResourceExhausted, reason::kRateLimited,
                             absl::StrCat("calls of one owner are limited to ", per_second,
                                          " a second here; wait a little and go on more slowly"),
                             {{"requests_per_second", absl::StrCat(per_second)}});
  AddRetry(status, retry_after);
  return status;
}

absl::Status TooManyStreams(int limit, absl::Duration retry_after) {
  absl::Status status =
      Make(absl::StatusCode::kResourceExhausted, reason::kTooManyStreams,
           absl::StrCat("one owner may have ", limit,
                        " streams open at once, and this one has; end some and try again"),
           {{"streams_per_owner", absl::StrCat(limit)}});
  AddRetry(status, retry_after);
  return status;
}

absl::Status MalformedRequest(absl::string_view method) {
  return Make(absl::StatusCode::kInvalidArgument, reason::kMalformedRequest,
              absl::StrCat("the request is not a message that ", method,
                           " takes: damaged, nested more than 100 deep, or with text that is not "
                           "UTF-8; make it with this version's proto files"),
              {{"method", std::string(method)}});
}

absl::Status UnknownMethod(absl::string_view method) {
  return Make(absl::StatusCode::kUnimplemented, reason::kUnknownMethod,
              absl::StrCat("this server has no method ", QuotedForMessage(method),
                           "; compare the versions of client and server (normlab version), and "
                           "use reflection to see what it has"));
}

}  // namespace normlab::server
