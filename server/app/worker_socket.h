#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace normlab::server {

// Prepares the place of the Unix socket on which workers report and returns its absolute path:
// <data_dir>/run in a folder that only we may enter or, where that path is longer than a socket's
// may be (107 bytes), a folder of the same kind below `temporary_folder`, whose name follows from
// data_dir: workers that outlive the server find the next one. FAILED_PRECONDITION: the folder
// cannot be made, or it belongs to somebody else.
absl::StatusOr<std::string> PrepareWorkerSocket(const std::string& data_dir,
                                                const std::string& temporary_folder = "/tmp");

}  // namespace normlab::server
