#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/lib/client.h"
#include "client/report/runs.h"

namespace normlab::client::report {

// Fetches jobs with all their series, several at a time, in the order of `names`; a stream that breaks goes on where it was.
// A job that is not over comes with what it has written so far. Together at most some four million points are fetched: of
// longer series the server keeps least and greatest values (*sampled). A job that is gone is NOT_FOUND; other
// errors are those of the client. Blocks; thread-safe.
absl::StatusOr<std::vector<RunData>> CollectRuns(Client& client,
                                                 const std::vector<std::string>& names,
                                                 bool* sampled);

// Fetches all jobs of an experiment (complete, with cells) likewise, cell by cell. A job that was deleted since is left out.
absl::StatusOr<RunSet> CollectExperiment(Client& client, const normlab::v1::Experiment& experiment);

// What the server says about itself, for the report's last lines.
absl::StatusOr<std::string> DescribeServer(Client& client);

}  // namespace normlab::client::report
