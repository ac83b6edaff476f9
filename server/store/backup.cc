#include "server/store/backup.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "server/domain/errors.h"
#include "server/store/backup_files.h"
#include "server/store/connection.h"
#include "server/store/schema.h"

#include "SQLiteCpp/Backup.h"

namespace normlab::server {
namespace {

namespace fs = std::filesystem;

// How often names are read and linked again because a worker removed one in between. Each round
// takes milliseconds; a worker keeps a checkpoint until it has written two more.
constexpr int kMostRounds = 50;

// The files of jobs that a state of the database names, relative to the work folder.
struct NamedFiles {
  std::map<std::string, std::string> files;  // path to SHA-256
  std::set<std::string> folders;             // of the checkpoint that a job would go on from
};

NamedFiles ReadNamedFiles(Connection& connection) {
  NamedFiles named;
  Query files(connection, "SELECT path, sha256 FROM artifacts");
  while (files.Step()) {
    named.files.emplace(files.Text(0), files.Text(1));
  }
  // Those of earlier attempts are removed when a later one has a checkpoint.
  Query folders(connection,
                "SELECT checkpoint_folder, max(number) FROM attempts "
                "WHERE checkpoint_folder <> '' GROUP BY job_key");
  while (folders.Step()) {
    named.folders.insert(folders.Text(0));
  }
  return named;
}

// One at a time, on the work folder: what a killed one left is cleaned up by the next.
absl::StatusOr<common::UniqueFd> LockBackups(const std::string& work_dir) {
  const std::string path = work_dir + "/backup.lock";
  common::UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) {
    return StorageUnavailable(
        absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path)).message());
  }
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "another backup of ", work_dir, " is being made; wait for its end and try again"));
  }
  return lock;
}

// Gives every file that the connection's transaction names a second name below `staging`. Starts
// the transaction anew when one has gone in between. Answers what there is not, for good.
absl::StatusOr<std::set<std::string>> LinkNamedFiles(Connection& connection,
                                                     const std::string& work_dir,
                                                     const std::string& staging,
                                                     NamedFiles& named) {
  std::set<std::string> missing_before;
  for (int round = 0;; ++round) {
    if (round > 0) {
      connection.Execute("COMMIT");
    }
    // The first read fixes what all later ones of the transaction see.
    connection.Execute("BEGIN");
    named = ReadNamedFiles(connection);
    std::set<std::string> missing;
    for (const auto& [path, sha256] : named.files) {
      NORMLAB_ASSIGN_OR_RETURN(const bool there, LinkFile(work_dir, path, staging));
      if (!there) {
        missing.insert(path);
      }
    }
    for (const std::string& folder : named.folders) {
      NORMLAB_ASSIGN_OR_RETURN(const bool there, LinkFolder(work_dir, folder, staging));
      if (!there) {
        missing.insert(folder);
      }
    }
    // What is missing twice was not removed just now.
    if (missing == missing_before || round == kMostRounds) {
      return missing;
    }
    missing_before = std::move(missing);
  }
}

void CopyDatabase(Connection& from, const std::string& to) {
  SQLite::Database copy(to, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  // It counts only when everything is flushed at the end.
  copy.exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
  SQLite::Backup backup(copy, from.database());
  // All in one step, inside the transaction: in several, every commit would make it start over.
  constexpr int kAllPages = -1;
  const int code = backup.executeStep(kAllPages);
  if (code != SQLite::OK && backup.getRemainingPageCount() != 0) {
    throw SQLite::Exception("the database was locked while it was copied", code);
  }
}

// Makes the copy one that a server may start on beside the original, and checks it.
absl::StatusOr<int64_t> FinishDatabase(const std::string& path,
                                       const std::set<std::string>& missing) {
  Connection copy(path, Connection::Mode::kReadWrite, kBusyTimeoutMs);
  // One file; the server that opens it changes it to a write-ahead log.
  copy.database().execAndGet("PRAGMA journal_mode = DELETE");
  {
    SQLite::Transaction transaction(copy.database(), SQLite::TransactionBehavior::IMMEDIATE);
    // Whoever restores it must never signal the original's workers, nor wait for them.
    copy.Execute("UPDATE attempts SET process_identity = ''");
    for (const std::string& file : missing) {
      Query(copy, "DELETE FROM artifacts WHERE path = ?", file).Run();
    }
    transaction.commit();
  }
  const std::string verdict = copy.database().execAndGet("PRAGMA quick_check(1)").getString();
  if (verdict != "ok") {
    return CorruptDatabase(path, verdict);
  }
  return copy.database().execAndGet("SELECT count(*) FROM jobs").getInt64();
}

std::string Manifest(const BackupSummary& summary) {
  return absl::StrCat("{\"format\": 1, \"schema\": ", summary.schema, ", \"created\": \"",
                      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone()),
                      "\", \"jobs\": ", summary.jobs, ", \"job_files\": ", summary.job_files,
                      ", \"dataset_files\": ", summary.dataset_files, "}\n");
}

absl::Status CopyEverything(const BackupOptions& options,
                            const std::string& target,
                            BackupSummary& summary) {
  const std::string database = options.data_dir + "/normlab.db";
  const std::string staging = options.work_dir + "/backup-links";
  NORMLAB_ASSIGN_OR_RETURN(const common::UniqueFd lock, LockBackups(options.work_dir));
  NORMLAB_RETURN_IF_ERROR(RemoveFolder(staging));
  const absl::Cleanup remove_links = [&] { RemoveFolder(staging).IgnoreError(); };

  NamedFiles named;
  std::set<std::string> missing;
  NORMLAB_RETURN_IF_ERROR(CatchSqlite(database, [&]() -> absl::Status {
    const std::unique_ptr<Connection> connection = OpenForReading(database);
    summary.schema = connection->database().execAndGet("PRAGMA user_version").getInt();
    if (summary.schema != SchemaVersion()) {
      return UnsupportedDatabase(
          database, absl::StrCat("it has schema version ", summary.schema, ", this normlabd has ",
                                 SchemaVersion(),
                                 "; make the backup with the normlabd that runs on it, or start "
                                 "this one on it first"));
    }
    NORMLAB_ASSIGN_OR_RETURN(missing,
                             LinkNamedFiles(*connection, options.work_dir, staging, named));
    CopyDatabase(*connection, target + "/normlab.db");
    connection->Execute("COMMIT");
    return absl::OkStatus();
  }));
  summary.missing_files = static_cast<int64_t>(missing.size());
  NORMLAB_ASSIGN_OR_RETURN(summary.jobs,
                           CatchSqlite(target + "/normlab.db", [&]() -> absl::StatusOr<int64_t> {
                             return FinishDatabase(target + "/normlab.db", missing);
                           }));
  std::error_code error;
  summary.database_bytes = static_cast<int64_t>(fs::file_size(target + "/normlab.db", error));

  NORMLAB_ASSIGN_OR_RETURN(const CopiedFiles job_files,
                           CopyTree(staging, target + "/work", named.files));
  NORMLAB_ASSIGN_OR_RETURN(const CopiedFiles logs,
                           CopyLogs(options.work_dir + "/jobs", target + "/work/jobs"));
  NORMLAB_ASSIGN_OR_RETURN(const CopiedFiles data_sets,
                           CopyTree(options.data_dir + "/datasets", target + "/datasets", {}));
  summary.job_files = job_files.files + logs.files;
  summary.job_file_bytes = job_files.bytes + logs.bytes;
  summary.dataset_files = data_sets.files;
  summary.dataset_bytes = data_sets.bytes;
  NORMLAB_RETURN_IF_ERROR(common::WriteFileSynced(target + "/BACKUP", Manifest(summary), 0600));
  return FlushFilesystem(target);
}

}  // namespace

absl::StatusOr<BackupSummary> BackUp(const BackupOptions& given) {
  const absl::Duration start = common::Clock::Real().Monotonic();
  BackupOptions options = given;
  std::error_code error;
  options.target = fs::absolute(options.target, error).lexically_normal().string();
  while (options.target.size() > 1 && absl::EndsWith(options.target, "/")) {
    options.target.pop_back();
  }
  BackupSummary summary;
  summary.target = options.target;
  if (!fs::exists(options.data_dir + "/normlab.db", error)) {
    return absl::NotFoundError(absl::StrCat("there is no ", options.data_dir,
                                            "/normlab.db that can be read; name the server's "
                                            "--data_dir, and run as its user or root"));
  }
  if (absl::StartsWith(options.target,
                       fs::absolute(options.data_dir).lexically_normal().string() + "/datasets/")) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.target, " lies in the folder of data sets, which is copied too; choose another"));
  }
  const std::string partial = options.target + ".partial";
  for (const std::string& path : {options.target, partial}) {
    if (fs::exists(fs::symlink_status(path, error))) {
      return absl::AlreadyExistsError(absl::StrCat(
          path, " is there already; choose another name for the backup, or remove it"));
    }
  }
  fs::create_directories(options.work_dir, error);
  if (!fs::create_directories(partial, error) || error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the folder ", partial, ": ", error.message(),
                     "; name a place that this user may write to, or make one: install -d -o USER ",
                     fs::path(partial).parent_path().string()));
  }
  const absl::Status copied = CopyEverything(options, partial, summary);
  if (copied.ok()) {
    fs::rename(partial, options.target, error);
  }
  if (!copied.ok() || error) {
    const std::string why = error.message();
    RemoveFolder(partial).IgnoreError();
    return copied.ok() ? StorageUnavailable(absl::StrCat("cannot rename ", partial, ": ", why))
                       : copied;
  }
  NORMLAB_RETURN_IF_ERROR(common::SyncFolder(fs::path(options.target).parent_path().string()));
  summary.seconds = absl::ToDoubleSeconds(common::Clock::Real().Monotonic() - start);
  return summary;
}

}  // namespace normlab::server
