#include "client/lib/rpc_error.h"

#include <map>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace normlab::client {
namespace {

constexpr char kPayloadUrl[] = "type.googleapis.com/google.rpc.Status";

// The first detail of type Detail.
template <typename Detail>
std::optional<Detail> FindDetail(const google::rpc::Status& status) {
  Detail detail;
  for (const google::protobuf::Any& any : status.details()) {
    if (any.UnpackTo(&detail)) {
      return detail;
    }
  }
  return std::nullopt;
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    result.SetPayload(kPayloadUrl, absl::Cord(status.error_details()));
  }
  return result;
}

absl::Status FromRpcStatus(const google::rpc::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.code()), status.message());
  if (!result.ok()) {
    result.SetPayload(kPayloadUrl, absl::Cord(status.SerializeAsString()));
  }
  return result;
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status result;
  if (const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
      payload.has_value() && !result.ParseFromString(std::string(*payload))) {
    result.Clear();
  }
  result.set_code(static_cast<int>(status.code()));
  result.set_message(std::string(status.message()));
  return result;
}

std::vector<google::rpc::BadRequest::FieldViolation> FieldViolations(const absl::Status& status) {
  const auto bad_request = FindDetail<google::rpc::BadRequest>(ToRpcStatus(status));
  if (!bad_request.has_value()) {
    return {};
  }
  return {bad_request->field_violations().begin(), bad_request->field_violations().end()};
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto retry_info = FindDetail<google::rpc::RetryInfo>(ToRpcStatus(status));
  if (!retry_info.has_value() || !retry_info->has_retry_delay()) {
    return std::nullopt;
  }
  return ToDuration(retry_info->retry_delay());
}

std::string ErrorReason(const absl::Status& status) {
  const auto info = FindDetail<google::rpc::ErrorInfo>(ToRpcStatus(status));
  return info.has_value() ? info->reason() : "";
}

std::string CodeName(absl::StatusCode code) {
  return absl::StatusCodeToString(code);
}

std::string DescribeError(const absl::Status& status) {
  const google::rpc::Status details = ToRpcStatus(status);
  const std::string message =
      status.message().empty() ? CodeName(status.code()) : std::string(status.message());
  std::string text = message;
  // Messages often say in a sentence what the details hold for programs: once is enough.
  const auto add = [&](absl::string_view label, absl::string_view separator,
                       absl::string_view value) {
    if (!value.empty() && !absl::StrContains(message, value)) {
      absl::StrAppend(&text, "\n  ", label, label.empty() ? "" : separator, value);
    }
  };
  if (const auto bad_request = FindDetail<google::rpc::BadRequest>(details)) {
    for (const google::rpc::BadRequest::FieldViolation& violation :
         bad_request->field_violations()) {
      add(violation.field(), ": ", violation.description());
    }
  }
  if (const auto resource = FindDetail<google::rpc::ResourceInfo>(details)) {
    add(resource->resource_name(), ": ", resource->description());
  }
  if (const auto info = FindDetail<google::rpc::ErrorInfo>(details)) {
    const std::map<std::string, std::string> facts(info->metadata().begin(),
                                                   info->metadata().end());
    for (const auto& [key, value] : facts) {
      add(key, " = ", value);
    }
  }
  if (const std::optional<absl::Duration> delay = RetryDelay(status)) {
    add("try again in", " ", absl::FormatDuration(*delay));
  }
  return text;
}

}  // namespace normlab::client
