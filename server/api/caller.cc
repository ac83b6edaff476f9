#include "server/api/caller.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "server/auth/method_rules.h"
#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"

namespace normlab::server {

absl::StatusOr<Caller> Authorize(const Backend& backend,
                                 const grpc::CallbackServerContext& context,
                                 absl::string_view method) {
  const auto& metadata = context.client_metadata();
  const auto [begin, end] = metadata.equal_range("authorization");
  absl::string_view authorization;
  if (begin != end) {
    authorization = absl::string_view(begin->second.data(), begin->second.size());
  }
  return backend.authorizer.Authorize(method, authorization, context.peer());
}

absl::Status CheckOwner(Backend& backend, const Caller& caller, absl::string_view resource) {
  if (caller.sees_all() || resource.empty()) {
    return absl::OkStatus();
  }
  // Of jobs/<id>/artifacts/<a> the first two parts.
  const std::vector<absl::string_view> parts = absl::StrSplit(resource, '/');
  if (parts.size() >= 2 && parts[0] == "experiments") {
    NORMLAB_ASSIGN_OR_RETURN(const std::string id,
                             ParseExperimentName(absl::StrCat(parts[0], "/", parts[1])));
    NORMLAB_ASSIGN_OR_RETURN(const std::string owner, backend.store.experiments().GetOwner(id));
    return caller.sees(owner) ? absl::OkStatus() : ExperimentNotFound(ExperimentName(id));
  }
  NORMLAB_ASSIGN_OR_RETURN(
      const std::string id,
      ParseJobName(parts.size() < 2 ? resource : absl::StrCat(parts[0], "/", parts[1])));
  NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, backend.store.GetJob(id));
  return caller.sees(job.owner()) ? absl::OkStatus() : JobNotFound(JobName(id));
}

void AuditRefused(const Backend& backend,
                  const Caller& caller,
                  absl::string_view method,
                  absl::string_view resource,
                  absl::string_view peer,
                  const absl::Status& why) {
  backend.authorizer.AuditRefused(caller, method, resource, peer, why);
}

void Audit(const Backend& backend,
           const Caller& caller,
           absl::string_view method,
           absl::string_view resource,
           const grpc::CallbackServerContext& context,
           const absl::Status& outcome) {
  const MethodRule* rule = FindMethodRule(method);
  if (rule != nullptr && rule->changes) {
    backend.authorizer.Audit(caller, method, resource, context.peer(), outcome);
  }
}

}  // namespace normlab::server
