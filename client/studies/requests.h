#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/studies/study.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client::studies {

// Labels of a study's experiments and jobs.
inline constexpr char kStudyLabel[] = "study";
inline constexpr char kPresetLabel[] = "preset";
inline constexpr char kPartLabel[] = "part";
inline constexpr char kRunLabel[] = "run";  // the same for all parts of a run
inline constexpr char kChangesLabel[] =
    "changes";  // what the user changed, as much of it as fits into a label

// One request for each part. The request ids follow from the plan, the server's version and `again`: the same run asked for
// twice is the same experiments, so that an interrupted one is gone on with and a finished one is found. `again` tells runs
// apart that are to be different ones. Thread-safe.
std::vector<v1::CreateExperimentRequest> MakeRequests(const Plan& plan,
                                                      absl::string_view server_version,
                                                      absl::string_view again);

}  // namespace normlab::client::studies
