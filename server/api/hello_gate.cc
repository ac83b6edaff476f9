#include "server/api/hello_gate.h"

#include <string>

#include "common/clock.h"
#include "common/worker_hello.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/scheduler/attempt_secret.h"

#include "normlab/v1/worker.pb.h"
#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// Of every attempt.
constexpr size_t kSecretBytes = 32;
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

absl::Status HelloGate::Check(const std::multimap<grpc::string_ref, grpc::string_ref>& headers) {
  absl::Status verdict = Judge(headers);
  if (absl::IsUnauthenticated(verdict)) {
    if (const auto refused = refusals_.Count(common::Clock::Real().Monotonic());
        refused.has_value()) {
      spdlog::warn(
          "refused {} call(s) to the workers' address by somebody who is no worker of this server "
          "(further ones are counted, and told once a minute); keep that port to the cluster's "
          "nodes",
          *refused);
    }
  }
  return verdict;
}

absl::Status HelloGate::Judge(const std::multimap<grpc::string_ref, grpc::string_ref>& headers) {
  const auto header = headers.find(common::kHelloHeader);
  v1::Hello hello;
  if (header == headers.end() ||
      !hello.ParseFromArray(header->second.data(), static_cast<int>(header->second.size())) ||
      hello.secret().size() != kSecretBytes) {
    return UnauthenticatedWorker();
  }
  const absl::StatusOr<std::string> id = ParseJobName(hello.job(), "job");
  if (!id.ok()) {
    return UnauthenticatedWorker();
  }
  const absl::StatusOr<AttemptSecrets> stored = store_.GetAttemptSecrets({*id, hello.attempt()});
  if (!stored.ok() && !absl::IsNotFound(stored.status())) {
    return ShuttingDown(kRetryAfter);
  }
  if (!stored.ok() || !SecretMatches(hello.secret(), stored->secret_sha256)) {
    return UnauthenticatedWorker();
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
