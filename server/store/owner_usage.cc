#include "server/store/owner_usage.h"

namespace normlab::server {

void WriteOwnerUsage(Connection& connection, const std::vector<OwnerUsage>& usage) {
  for (const OwnerUsage& one : usage) {
    Query(connection,
          "INSERT OR REPLACE INTO owner_usage(owner, core_seconds, as_of_us) VALUES (?, ?, ?)",
          one.owner, one.core_seconds, absl::ToUnixMicros(one.as_of))
        .Run();
  }
}

std::vector<OwnerUsage> ReadOwnerUsage(Connection& connection) {
  std::vector<OwnerUsage> usage;
  Query query(connection, "SELECT owner, core_seconds, as_of_us FROM owner_usage ORDER BY owner");
  while (query.Step()) {
    usage.push_back({query.Text(0), query.Real(1), absl::FromUnixMicros(query.Int(2))});
  }
  return usage;
}

}  // namespace normlab::server
