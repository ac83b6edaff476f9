#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/store/connection.h"
#include "server/store/queue_entry.h"

// The queue as its index has it: no job's row is read. Functions may throw SQLite::Exception.
namespace normlab::server {

// All QUEUED jobs, oldest first.
std::vector<QueueEntry> ReadQueue(Connection& connection);

// Sum of QueueEntry::bytes over the owner's QUEUED and PAUSED jobs. A millisecond for 10,000.
int64_t ReadQueuedBytes(Connection& connection, const std::string& owner);

}  // namespace normlab::server
