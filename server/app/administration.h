#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/app/options.h"

// What normlabd does besides running: short commands on a server of this machine or its data.
namespace normlab::server {

// Whether the server that runs with these options takes jobs: OK, or UNAVAILABLE with why not. It is
// looked for where options.port_file says, if one is named, else at options.http_listen; an address
// that means every one of this machine is asked on loopback.
absl::Status CheckHealth(const RawOptions& options);

// Copies the data folder of these options into the new folder `target` (see server/store/backup.h)
// and answers with lines for a person.
absl::StatusOr<std::string> BackUpDataFolder(const RawOptions& options, const std::string& target);

}  // namespace normlab::server
