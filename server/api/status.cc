#include "server/api/status.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "server/api/cut_text.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// The message goes out twice (grpc-message, and in the details, where some clients check that it is
// the same), the details in base64: 1000 + (1000 + 3500) * 4/3 = 7000 of 8192 bytes, which leaves
// room for the rest of the trailers.
constexpr size_t kMaxMessageBytes = 1000;
constexpr size_t kMaxDetailBytes = 3500;
// Of one violation's description; a single one must never push out all others.
constexpr size_t kMaxDescriptionBytes = 700;

constexpr absl::string_view kBadRequestType = "type.googleapis.com/google.rpc.BadRequest";

// The first violations that fit into `bytes`, and how many did not.
std::string CutBadRequest(const std::string& serialized, size_t bytes) {
  google::rpc::BadRequest all;
  if (!all.ParseFromString(serialized)) {
    return "";
  }
  constexpr size_t kRoomForSummary = 100;
  google::rpc::BadRequest cut;
  for (const auto& violation : all.field_violations()) {
    auto* added = cut.add_field_violations();
    added->set_field(CutText(violation.field(), kMaxDescriptionBytes));
    added->set_description(CutText(violation.description(), kMaxDescriptionBytes));
    if (cut.ByteSizeLong() + kRoomForSummary > bytes) {
      cut.mutable_field_violations()->RemoveLast();
      break;
    }
  }
  if (cut.field_violations_size() < all.field_violations_size()) {
    cut.add_field_violations()->set_description(
        absl::StrCat(all.field_violations_size() - (cut.field_violations_size() - 1),
                     " more problems did not fit here; correct these and submit again"));
  }
  return cut.SerializeAsString();
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& error) {
  if (error.ok()) {
    return grpc::Status::OK;
  }
  const absl::Status status = WithReason(error);
  const std::string message = CutText(status.message(), kMaxMessageBytes);
  std::vector<std::pair<std::string, std::string>> details;
  std::string bad_request;
  size_t bytes = 0;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    if (type_url == kBadRequestType) {
      bad_request = std::string(payload);
      return;
    }
    if (bytes + payload.size() <= kMaxDetailBytes) {
      details.emplace_back(type_url, std::string(payload));
      bytes += payload.size() + type_url.size();
    }
  });
  if (!bad_request.empty()) {
    if (bytes + bad_request.size() > kMaxDetailBytes) {
      bad_request =
          CutBadRequest(bad_request, bytes < kMaxDetailBytes ? kMaxDetailBytes - bytes : 0);
    }
    details.emplace_back(kBadRequestType, std::move(bad_request));
  }

  // absl's codes are gRPC's.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(code));
  proto.set_message(message);
  for (auto& [type_url, value] : details) {
    auto* any = proto.add_details();
    any->set_type_url(std::move(type_url));
    any->set_value(std::move(value));
  }
  return grpc::Status(code, message, proto.SerializeAsString());
}

}  // namespace normlab::server
