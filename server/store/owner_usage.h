#pragma once

#include <vector>

#include "server/store/connection.h"
#include "server/store/store.h"

// The scheduler's memory of owners as rows. Both may throw SQLite::Exception.
namespace normlab::server {

void WriteOwnerUsage(Connection& connection, const std::vector<OwnerUsage>& usage);
std::vector<OwnerUsage> ReadOwnerUsage(Connection& connection);

}  // namespace normlab::server
