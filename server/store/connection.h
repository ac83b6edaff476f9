#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "SQLiteCpp/SQLiteCpp.h"

namespace normlab::server {

// One SQLite connection with its prepared statements. Everything here throws SQLite::Exception, the
// library's own way of telling errors: the store's entry points catch it with CatchSqlite. Not
// thread-safe.
class Connection {
 public:
  enum class Mode { kReadOnly, kReadWrite, kCreate };

  // Waits up to `busy_timeout_ms` for locks of other connections.
  Connection(const std::string& path, Mode mode, int busy_timeout_ms);

  SQLite::Database& database() { return database_; }
  const std::string& path() const { return path_; }

  // Runs statements that answer nothing.
  void Execute(const char* sql) { database_.exec(sql); }

  // The statement for this text, compiled once and kept; reset. It is in use until a Query on it
  // ends.
  SQLite::Statement& Prepared(const std::string& sql);

  // Whether a transaction is open; some errors end it on SQLite's side.
  bool InTransaction() const;

 private:
  const std::string path_;
  SQLite::Database database_;
  absl::flat_hash_map<std::string, std::unique_ptr<SQLite::Statement>> statements_;
};

// Marks bytes to be bound as a blob, without copying: they must outlive the Query.
struct Blob {
  absl::string_view bytes;
};

// One use of a prepared statement: binds `values` to its parameters in order; at its end the
// statement is reset, so that no read transaction lingers.
class Query {
 public:
  template <typename... Values>
  Query(Connection& connection, const std::string& sql, const Values&... values)
      : statement_(connection.Prepared(sql)) {
    int index = 0;
    (Bind(++index, values), ...);
  }
  ~Query() { statement_.tryReset(); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // Moves to the next row; false: there is none.
  bool Step() { return statement_.executeStep(); }
  // For statements that answer no rows: runs it and returns the number of changed rows.
  int Run() { return statement_.exec(); }

  // Columns of the current row, from 0.
  int64_t Int(int column) const { return statement_.getColumn(column).getInt64(); }
  double Real(int column) const { return statement_.getColumn(column).getDouble(); }
  std::string Text(int column) const { return statement_.getColumn(column).getString(); }
  bool IsNull(int column) const { return statement_.isColumnNull(column); }
  // Valid until the next Step.
  absl::string_view Bytes(int column) const;

  // Binds a further parameter, for statements whose text is put together.
  void Bind(int index, int64_t value) { statement_.bind(index, value); }
  void Bind(int index, int value) { statement_.bind(index, static_cast<int64_t>(value)); }
  void Bind(int index, uint32_t value) { statement_.bind(index, static_cast<int64_t>(value)); }
  void Bind(int index, bool value) { statement_.bind(index, static_cast<int64_t>(value)); }
  void Bind(int index, double value) { statement_.bind(index, value); }
  void Bind(int index, const std::string& text) { statement_.bind(index, text); }
  void Bind(int index, Blob blob);
  void Bind(int index, const std::optional<int64_t>& value);
  void Bind(int index, const std::optional<Blob>& blob);

 private:
  SQLite::Statement& statement_;
};

// Several reads of one state of the database. Ends on destruction.
class ReadTransaction {
 public:
  explicit ReadTransaction(Connection& connection);
  ~ReadTransaction();
  ReadTransaction(const ReadTransaction&) = delete;
  ReadTransaction& operator=(const ReadTransaction&) = delete;

 private:
  Connection& connection_;
};

// What a user has to know of a failure of SQLite on the database at `path`: RESOURCE_EXHAUSTED
// (disk full), DATA_LOSS (corrupt), UNAVAILABLE (I/O, permissions, locked), else INTERNAL.
absl::Status StatusFromSqlite(const SQLite::Exception& exception, const std::string& path);

// Calls `body`, which returns a Status or StatusOr, and turns the library's exceptions into one.
template <typename Body>
auto CatchSqlite(const std::string& path, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const SQLite::Exception& exception) {
    return StatusFromSqlite(exception, path);
  }
}

}  // namespace normlab::server
