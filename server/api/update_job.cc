#include "server/api/update_job.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"
#include "engine/spec/validate.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr absl::string_view kLabel = "labels.";
// More paths than labels make no sense.
constexpr int kMaxPaths = 100;

// What a spec with these values could not have. The engine's rules for them are the only ones.
std::vector<FieldViolation> CheckValues(const v1::Job& job) {
  v1::JobSpec spec;
  spec.set_display_name(job.display_name());
  *spec.mutable_labels() = job.labels();
  spec.set_priority(job.priority());
  std::vector<FieldViolation> violations;
  for (const engine::Violation& violation : engine::Validate(spec)) {
    if (absl::StartsWith(violation.field, "labels") || violation.field == "display_name" ||
        violation.field == "priority") {
      violations.push_back({absl::StrCat("job.", violation.field), violation.description});
    }
  }
  return violations;
}

absl::Status CheckMask(const google::protobuf::FieldMask& mask) {
  if (mask.paths().empty()) {
    return InvalidArgument("update_mask",
                           "is empty; name what shall change: display_name, labels, labels.<key> "
                           "or priority");
  }
  if (mask.paths_size() > kMaxPaths) {
    return InvalidArgument(
        "update_mask", absl::StrCat("has ", mask.paths_size(), " paths; use at most ", kMaxPaths));
  }
  for (const std::string& path : mask.paths()) {
    const bool is_label = absl::StartsWith(path, kLabel) && path.size() > kLabel.size();
    if (path != "display_name" && path != "labels" && path != "priority" && !is_label) {
      return InvalidArgument("update_mask",
                             absl::StrCat(QuotedForMessage(path),
                                          " cannot be changed; only display_name, labels, "
                                          "labels.<key> and priority can"));
    }
  }
  return absl::OkStatus();
}

absl::Status Apply(const v1::UpdateJobRequest& request, v1::Job& job) {
  for (const std::string& path : request.update_mask().paths()) {
    absl::string_view key = path;
    if (path == "display_name") {
      job.set_display_name(request.job().display_name());
    } else if (path == "priority") {
      job.set_priority(request.job().priority());
    } else if (path == "labels") {
      *job.mutable_labels() = request.job().labels();
    } else if (absl::ConsumePrefix(&key, kLabel)) {
      const auto value = request.job().labels().find(std::string(key));
      if (value == request.job().labels().end()) {
        job.mutable_labels()->erase(std::string(key));
      } else {
        (*job.mutable_labels())[value->first] = value->second;
      }
    }
  }
  const std::vector<FieldViolation> violations = CheckValues(job);
  return violations.empty() ? absl::OkStatus() : InvalidRequest(violations);
}

}  // namespace

absl::StatusOr<v1::Job> HandleUpdateJob(Backend& backend,
                                        const Caller& /*caller*/,
                                        const v1::UpdateJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.job().name(), "job.name"));
  NORMLAB_RETURN_IF_ERROR(CheckMask(request.update_mask()));
  NORMLAB_ASSIGN_OR_RETURN(
      v1::Job job,
      backend.store.UpdateJobAndWait(id, [request](v1::Job& stored, std::vector<v1::Segment>&) {
        return Apply(request, stored);
      }));
  spdlog::info("{}: display name, labels or priority changed", job.name());
  // Its priority may have.
  backend.controller.JobChanged(job);
  return job;
}

}  // namespace normlab::server
