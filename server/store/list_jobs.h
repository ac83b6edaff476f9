#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

#include "server/store/connection.h"
#include "server/store/store.h"

namespace normlab::server {

// A call looks at so many rows at most, and then answers a page that may be short, with a token.
inline constexpr int kMaxExaminedRows = 20'000;
// A page ends before it grows larger, whatever its wanted size: gRPC's clients take messages of at
// most 4 MiB unless they are told otherwise. One job is far smaller.
inline constexpr size_t kMaxPageBytes = size_t{2} << 20;

// One page of jobs, newest first. Inside a read transaction. May throw SQLite::Exception.
// INVALID_ARGUMENT: the token is not of this filter. `max_examined` as a parameter for tests.
absl::StatusOr<JobPage> ListJobPage(Connection& connection,
                                    const JobFilter& filter,
                                    int page_size,
                                    const std::string& page_token,
                                    int max_examined = kMaxExaminedRows);

}  // namespace normlab::server
