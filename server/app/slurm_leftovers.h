#pragma once

#include "absl/status/status.h"

#include "server/store/store.h"

namespace normlab::server {

// For a server that runs jobs itself, before it takes up what an earlier one left: attempts that were
// handed over to Slurm go on there, out of its sight. FAILED_PRECONDITION, with how many and what to do, when
// there are any; with `abandon` their ids go to the log instead. The store's errors otherwise.
absl::Status CheckSlurmLeftovers(Store& store, bool abandon);

}  // namespace normlab::server
