#include "client/lib/spec_violation.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "client/lib/rpc_error.h"

namespace normlab::client {
namespace {

// The field around `path`: a.b[1] -> a.b -> a -> "".
std::string Parent(const std::string& path) {
  const size_t end = path.find_last_of(".[");
  return end == std::string::npos ? "" : path.substr(0, end);
}

}  // namespace

std::string SourcePosition::ToString() const {
  return line > 0 ? absl::StrCat(source, ":", line, ":", column) : source;
}

std::string SpecViolation::ToString() const {
  std::string text;
  if (!where.source.empty()) {
    absl::StrAppend(&text, where.ToString(), ": ");
  }
  if (!field.empty()) {
    absl::StrAppend(&text, field, ": ");
  }
  return absl::StrCat(text, description);
}

absl::Status ViolationsToStatus(const std::vector<SpecViolation>& violations) {
  if (violations.empty()) {
    return absl::OkStatus();
  }
  google::rpc::BadRequest bad_request;
  for (const SpecViolation& violation : violations) {
    google::rpc::BadRequest::FieldViolation& added = *bad_request.add_field_violations();
    added.set_field(violation.field);
    added.set_description(
        violation.where.source.empty()
            ? violation.description
            : absl::StrCat(violation.where.ToString(), ": ", violation.description));
  }
  google::rpc::ErrorInfo info;
  info.set_reason("INVALID_SPEC_FILE");
  info.set_domain("normlab");
  google::rpc::Status status;
  status.set_code(static_cast<int>(absl::StatusCode::kInvalidArgument));
  status.set_message(absl::StrCat("the spec has ", violations.size(),
                                  violations.size() == 1 ? " problem" : " problems",
                                  "; correct what is listed and submit it again"));
  status.add_details()->PackFrom(info);
  status.add_details()->PackFrom(bad_request);
  return FromRpcStatus(status);
}

std::vector<SpecViolation> LocateViolations(const absl::Status& status,
                                            const SpecDocument& document) {
  std::vector<SpecViolation> violations;
  for (const google::rpc::BadRequest::FieldViolation& reported : FieldViolations(status)) {
    absl::string_view field = reported.field();
    absl::ConsumePrefix(&field, "job.");
    absl::ConsumePrefix(&field, "spec.");
    SpecViolation violation;
    violation.field = std::string(field);
    violation.description = reported.description();
    for (std::string path = violation.field; !path.empty(); path = Parent(path)) {
      if (const auto found = document.positions.find(path); found != document.positions.end()) {
        violation.where = found->second;
        break;
      }
    }
    violations.push_back(std::move(violation));
  }
  return violations;
}

}  // namespace normlab::client
