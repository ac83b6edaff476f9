#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::server {

// "jobs/<id>".
std::string JobName(absl::string_view id);

// The id of a resource name "jobs/<id>". INVALID_ARGUMENT, naming `field`, when it has another
// form; what it returns is safe in paths and queries.
absl::StatusOr<std::string> ParseJobName(absl::string_view name, absl::string_view field = "name");

// "experiments/<id>".
std::string ExperimentName(absl::string_view id);

// The id of a resource name "experiments/<id>", as ParseJobName.
absl::StatusOr<std::string> ParseExperimentName(absl::string_view name,
                                                absl::string_view field = "name");

// Parts of "jobs/<id>/artifacts/<number>".
struct ArtifactName {
  std::string job_id;
  int64_t number = 0;
};
// INVALID_ARGUMENT, naming `field`, when it has another form.
absl::StatusOr<ArtifactName> ParseArtifactName(absl::string_view name,
                                               absl::string_view field = "name");

// The folder of an attempt, relative to the work folder: "jobs/<id>/attempt-<n>". Checkpoints lie
// below it.
std::string AttemptFolder(absl::string_view job_id, int32_t number);

// `text` in double quotes for a message: cut to 80 bytes, everything but printable ASCII escaped.
std::string QuotedForMessage(absl::string_view text);

}  // namespace normlab::server
