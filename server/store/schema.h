#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "server/store/connection.h"

namespace normlab::server {

inline constexpr int kBusyTimeoutMs = 5000;

// Opens or creates the database for its one writer: WAL, synchronous=FULL, incremental vacuum, no
// checkpoints on this connection's commits; then brings the schema up to date. `max_bytes` bounds
// the file, 0: only the disk does. FAILED_PRECONDITION: made by a newer version or not a database
// of ours; DATA_LOSS: corrupt.
absl::StatusOr<std::unique_ptr<Connection>> OpenForWriting(const std::string& path,
                                                           int64_t max_bytes);

// A connection that only reads. Throws SQLite::Exception.
std::unique_ptr<Connection> OpenForReading(const std::string& path);

// A connection that only checkpoints. Throws SQLite::Exception.
std::unique_ptr<Connection> OpenForCheckpoints(const std::string& path);

// The schema's version that this program writes.
int SchemaVersion();

}  // namespace normlab::server
