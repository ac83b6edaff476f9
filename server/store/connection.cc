#include "server/store/connection.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

int OpenFlags(Connection::Mode mode) {
  // A connection is used by one thread at a time, so SQLite need not lock it.
  switch (mode) {
    case Connection::Mode::kReadOnly:
      return SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX;
    case Connection::Mode::kReadWrite:
      return SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX;
    case Connection::Mode::kCreate:
      break;
  }
  return SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_NOMUTEX;
}

}  // namespace

Connection::Connection(const std::string& path, Mode mode, int busy_timeout_ms)
    : path_(path), database_(path, OpenFlags(mode), busy_timeout_ms) {}

SQLite::Statement& Connection::Prepared(const std::string& sql) {
  std::unique_ptr<SQLite::Statement>& statement = statements_[sql];
  if (statement == nullptr) {
    statement = std::make_unique<SQLite::Statement>(database_, sql);
  } else {
    statement->tryReset();
  }
  return *statement;
}

bool Connection::InTransaction() const {
  return sqlite3_get_autocommit(database_.getHandle()) == 0;
}

absl::string_view Query::Bytes(int column) const {
  const SQLite::Column value = statement_.getColumn(column);
  const void* data = value.getBlob();
  return data == nullptr ? absl::string_view()
                         : absl::string_view(static_cast<const char*>(data), value.getBytes());
}

void Query::Bind(int index, Blob blob) {
  // A null pointer would bind NULL instead of an empty blob.
  statement_.bindNoCopy(index,
                        blob.bytes.empty() ? static_cast<const void*>("") : blob.bytes.data(),
                        static_cast<int>(blob.bytes.size()));
}

void Query::Bind(int index, const std::optional<int64_t>& value) {
  if (value.has_value()) {
    statement_.bind(index, *value);
  } else {
    statement_.bind(index);
  }
}

void Query::Bind(int index, const std::optional<Blob>& blob) {
  if (blob.has_value()) {
    Bind(index, *blob);
  } else {
    statement_.bind(index);
  }
}

ReadTransaction::ReadTransaction(Connection& connection) : connection_(connection) {
  Query(connection_, "BEGIN DEFERRED").Run();
}

ReadTransaction::~ReadTransaction() {
  if (connection_.InTransaction()) {
    connection_.database().tryExec("ROLLBACK");
  }
}

absl::Status StatusFromSqlite(const SQLite::Exception& exception, const std::string& path) {
  const std::string detail =
      absl::StrCat(exception.what(), ", SQLite code ", exception.getExtendedErrorCode());
  switch (exception.getErrorCode() & 0xff) {
    case SQLITE_FULL:
      return StorageFull(detail);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return CorruptDatabase(path, detail);
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_PROTOCOL:
      return StorageUnavailable(detail);
    default:
      return InternalError(absl::StrCat("the database answered: ", detail));
  }
}

}  // namespace normlab::server
