#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace normlab::server {

// Slurm's word for why a job waits, with what to do about it where waiting alone does not help:
// "Resources"; "PartitionTimeLimit (Slurm will not start it as it is: ...)".
std::string ReasonForPeople(absl::string_view reason);

}  // namespace normlab::server
