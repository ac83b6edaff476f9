#include "server/api/normalize.h"

#include <string>
#include <utility>
#include <vector>

#include "engine/spec/validate_normalize.h"
#include "server/api/unary.h"
#include "server/domain/errors.h"

#include "normlab/v1/worker.pb.h"
#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr absl::Duration kShutdownRetry = absl::Seconds(1);

// What the caller may do wrong, without a look at any value.
absl::Status Check(const v1::NormalizeRequest& request) {
  if (const std::string field = engine::FindTooLargeTensor(request); !field.empty()) {
    return TensorTooLarge(field, engine::kMaxTensorValues);
  }
  std::vector<FieldViolation> violations;
  for (const engine::Violation& violation : engine::ValidateNormalize(request)) {
    violations.push_back({violation.field, violation.description});
  }
  return violations.empty() ? absl::OkStatus() : InvalidRequest(violations);
}

absl::Status HelperFailed(const absl::Status& failure, absl::Duration limit) {
  switch (failure.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return HelperTimeout(limit);
    case absl::StatusCode::kUnavailable:
      return ShuttingDown(kShutdownRetry);
    default:
      spdlog::warn("Normalize: {}", std::string(failure.message()));
      return HelperCrashed(failure.message());
  }
}

absl::StatusOr<v1::NormalizeResponse> ToResponse(absl::StatusOr<v1::HelperResponse> answer,
                                                 absl::Duration limit) {
  if (!answer.ok()) {
    return HelperFailed(answer.status(), limit);
  }
  if (!answer->has_normalize()) {
    return InternalError("the helper answered something else than a normalized tensor");
  }
  v1::NormalizeResult& result = *answer->mutable_normalize();
  if (!result.failure().empty()) {
    spdlog::warn("Normalize: {}", result.failure());
    return InternalError(result.failure());
  }
  if (result.violations_size() > 0) {
    std::vector<FieldViolation> violations;
    for (const v1::SpecViolation& violation : result.violations()) {
      violations.push_back({violation.field(), violation.description()});
    }
    return InvalidRequest(violations);
  }
  return std::move(*result.mutable_response());
}

}  // namespace

bool NormalizeQueue::TryEnter(size_t bytes) {
  absl::MutexLock lock(&mu_);
  if (calls_ > 0 && (calls_ >= kMaxCalls || bytes_ + bytes > kMaxBytes)) {
    return false;
  }
  ++calls_;
  bytes_ += bytes;
  return true;
}

void NormalizeQueue::Leave(size_t bytes) {
  absl::MutexLock lock(&mu_);
  --calls_;
  bytes_ -= bytes;
}

void StartNormalize(Backend& backend,
                    NormalizeQueue& queue,
                    const v1::NormalizeRequest& request,
                    absl::AnyInvocable<void(absl::StatusOr<v1::NormalizeResponse>) &&> done) {
  if (const absl::Status status = Check(request); !status.ok()) {
    std::move(done)(status);
    return;
  }
  const size_t bytes = request.ByteSizeLong();
  if (!queue.TryEnter(bytes)) {
    std::move(done)(Overloaded(kOverloadRetry));
    return;
  }
  // A shutdown waits for it.
  backend.calls_in_flight.fetch_add(1);
  v1::HelperRequest helper_request;
  *helper_request.mutable_normalize() = request;
  backend.normalizer.Call(
      std::move(helper_request), backend.options.normalize_timeout,
      [&backend, &queue, bytes,
       done = std::move(done)](absl::StatusOr<v1::HelperResponse> answer) mutable {
        // Serializing the result is not the helper thread's work.
        backend.pool.Post([&backend, &queue, bytes, answer = std::move(answer),
                           done = std::move(done)]() mutable {
          queue.Leave(bytes);
          std::move(done)(ToResponse(std::move(answer), backend.options.normalize_timeout));
          backend.calls_in_flight.fetch_sub(1);
        });
      });
}

}  // namespace normlab::server
