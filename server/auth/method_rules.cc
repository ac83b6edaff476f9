#include "server/auth/method_rules.h"

#include <algorithm>
#include <array>

namespace normlab::server {
namespace {

constexpr v1::Caller::Role kViewer = v1::Caller::VIEWER;
constexpr v1::Caller::Role kSubmitter = v1::Caller::SUBMITTER;

constexpr std::array kRules = {
    // normlab.v1.Jobs
    MethodRule{"CreateJob", kSubmitter, true},
    MethodRule{"GetJob", kViewer, false},
    MethodRule{"ListJobs", kViewer, false},
    MethodRule{"WatchJob", kViewer, false},
    MethodRule{"CancelJob", kSubmitter, true},
    MethodRule{"UpdateJob", kSubmitter, true},
    MethodRule{"PauseJob", kSubmitter, true},
    MethodRule{"ResumeJob", kSubmitter, true},
    MethodRule{"DeleteJob", kSubmitter, true},
    MethodRule{"ListArtifacts", kViewer, false},
    MethodRule{"ReadArtifact", kViewer, false},
    MethodRule{"ReadMetrics", kViewer, false},
    MethodRule{"ReadLogs", kViewer, false},
    // normlab.v1.Experiments
    MethodRule{"CreateExperiment", kSubmitter, true},
    MethodRule{"GetExperiment", kViewer, false},
    MethodRule{"ListExperiments", kViewer, false},
    MethodRule{"CancelExperiment", kSubmitter, true},
    MethodRule{"DeleteExperiment", kSubmitter, true},
    MethodRule{"WatchExperiment", kViewer, false},
    MethodRule{"SummarizeExperiment", kViewer, false},
    // normlab.v1.Normalization: computes on what it is sent and keeps nothing, but it costs time.
    MethodRule{"Normalize", kSubmitter, false},
    // normlab.v1.Server
    MethodRule{"GetServerInfo", kViewer, false},
};

}  // namespace

absl::Span<const MethodRule> MethodRules() {
  return kRules;
}

const MethodRule* FindMethodRule(absl::string_view method) {
  const auto* found = std::find_if(kRules.begin(), kRules.end(),
                                   [&](const MethodRule& rule) { return rule.method == method; });
  return found == kRules.end() ? nullptr : found;
}

const char* RoleName(v1::Caller::Role role) {
  switch (role) {
    case v1::Caller::VIEWER:
      return "viewer";
    case v1::Caller::SUBMITTER:
      return "submitter";
    case v1::Caller::ADMIN:
      return "admin";
    default:
      return "none";
  }
}

v1::Caller::Role ParseRole(absl::string_view name) {
  for (const v1::Caller::Role role :
       {v1::Caller::VIEWER, v1::Caller::SUBMITTER, v1::Caller::ADMIN}) {
    if (name == RoleName(role)) {
      return role;
    }
  }
  return v1::Caller::ROLE_UNSPECIFIED;
}

}  // namespace normlab::server
