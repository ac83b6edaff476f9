#include "server/store/job_counts.h"

namespace normlab::server {

JobCounts ReadJobCounts(Connection& connection) {
  JobCounts counts;
  Query query(connection, "SELECT owner, state, jobs FROM job_counts");
  while (query.Step()) {
    counts[{query.Text(0), static_cast<int>(query.Int(1))}] = query.Int(2);
  }
  return counts;
}

void AddJobCounts(Connection& connection, const JobCounts& deltas) {
  for (const auto& [owner_and_state, delta] : deltas) {
    if (delta == 0) {
      continue;
    }
    Query(connection,
          "INSERT INTO job_counts(owner, state, jobs) VALUES (?, ?, ?) "
          "ON CONFLICT(owner, state) DO UPDATE SET jobs = jobs + excluded.jobs",
          owner_and_state.first, owner_and_state.second, delta)
        .Run();
  }
}

}  // namespace normlab::server
