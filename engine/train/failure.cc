#include "engine/train/failure.h"

#include <string>

#include "absl/strings/cord.h"

namespace normlab::engine {
namespace {

constexpr char kReasonUrl[] = "normlab.v1.FailureReason";

}  // namespace

absl::Status WithReason(absl::Status status, v1::FailureReason::Kind reason) {
  if (!status.ok()) {
    status.SetPayload(kReasonUrl, absl::Cord(v1::FailureReason::Kind_Name(reason)));
  }
  return status;
}

v1::Failure ToFailure(const absl::Status& status) {
  v1::FailureReason::Kind reason = absl::IsResourceExhausted(status)
                                       ? v1::FailureReason::OUT_OF_MEMORY
                                       : v1::FailureReason::INTERNAL;
  if (const auto payload = status.GetPayload(kReasonUrl); payload.has_value()) {
    // A name that we wrote ourselves; were it unknown, `reason` would stay.
    v1::FailureReason::Kind_Parse(std::string(*payload), &reason);
  }
  v1::Failure failure;
  failure.set_reason(reason);
  failure.set_message(std::string(status.message()));
  return failure;
}

}  // namespace normlab::engine
