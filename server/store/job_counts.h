#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"

#include "server/store/connection.h"

// How many jobs every owner has in every state: a small table that the writer keeps beside the
// jobs, so that neither a start nor a question counts a million rows. All functions may throw
// SQLite::Exception.
namespace normlab::server {

// By (owner, state as its number).
using JobCounts = absl::flat_hash_map<std::pair<std::string, int>, int64_t>;

JobCounts ReadJobCounts(Connection& connection);

// Adds `deltas` to the table. Only inside the writer's transaction.
void AddJobCounts(Connection& connection, const JobCounts& deltas);

}  // namespace normlab::server
