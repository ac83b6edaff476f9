#include "server/scheduler/work_folder.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/atomic_file.h"
#include "common/cache_folder.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

constexpr size_t kMarkBytes = 16;
constexpr size_t kMaxMarkFileBytes = 4096;
constexpr int kMarkMode = 0600;
constexpr int kPageSize = 1000;
constexpr int64_t kMiB = int64_t{1} << 20;

std::string MarkPath(const std::string& folder) {
  return absl::StrCat(folder, "/", kWorkMarkFile);
}

std::string DatabaseOf(const WorkFolderOptions& options) {
  return options.data_dir + "/normlab.db";
}

absl::Status WriteMark(const std::string& folder, const std::string& mark) {
  return common::WriteFileAtomically(MarkPath(folder), mark + "\n", kMarkMode);
}

// Empty: it has none.
absl::StatusOr<std::string> ReadMark(const std::string& folder) {
  const absl::StatusOr<std::string> text = common::ReadFile(MarkPath(folder), kMaxMarkFileBytes);
  if (absl::IsNotFound(text.status())) {
    return std::string();
  }
  NORMLAB_RETURN_IF_ERROR(text.status());
  return std::string(absl::StripAsciiWhitespace(*text));
}

std::string NotTheFolder(const std::string& work_dir) {
  return absl::StrCat(
      "the work folder ", work_dir,
      " is not the one that the jobs have their files in "
      "(its file ",
      kWorkMarkFile,
      " is not there, or is another's): is its disk mounted? Mount it, or name the "
      "right folder with --work_dir; if its files are lost for good, start the server "
      "once with --accept_new_work_dir");
}

// Of jobs, or of what is left of them.
bool HasJobFolders(const std::string& work_dir) {
  std::error_code error;
  const std::filesystem::directory_iterator entries(work_dir + "/jobs", error);
  return !error && entries != std::filesystem::directory_iterator();
}

// Whether some job is to go on from a checkpoint.
absl::StatusOr<bool> NeedsFiles(Store& store) {
  std::vector<std::string> damaged;
  NORMLAB_ASSIGN_OR_RETURN(std::vector<v1::Job> active, store.ActiveJobs(&damaged));
  const auto goes_on = [](const v1::Job& job) { return FindLastCheckpoint(job).step > 0; };
  if (std::any_of(active.begin(), active.end(), goes_on)) {
    return true;
  }
  for (const v1::Job::State state : {v1::Job::QUEUED, v1::Job::PAUSED}) {
    JobFilter filter;
    filter.state = state;
    std::string page_token;
    do {
      NORMLAB_ASSIGN_OR_RETURN(const JobPage page, store.ListJobs(filter, kPageSize, page_token));
      for (const v1::Job& listed : page.jobs) {
        NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(listed.name()));
        // With its attempts.
        if (const absl::StatusOr<v1::Job> job = store.GetJob(id); job.ok() && goes_on(*job)) {
          return true;
        }
      }
      page_token = page.next_page_token;
    } while (!page_token.empty());
  }
  return false;
}

absl::Status LostDatabase(const WorkFolderOptions& options) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the database ", DatabaseOf(options), " is new, empty or missing, but ", options.work_dir,
      "/jobs has files of jobs: was the database lost? Bring it back from a backup, or choose "
      "another "
      "--data_dir or --work_dir; to begin anew beside those files, start the server once with "
      "--accept_new_database"));
}

// Missing counts as empty.
bool IsEmptyFile(const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? error == std::errc::no_such_file_or_directory : bytes == 0;
}

// A folder that the database has no mark of: may it be taken?
absl::Status CheckUnknownFolder(Store& store, const WorkFolderOptions& options) {
  const bool new_database = store.CountByState().empty();
  if (new_database && HasJobFolders(options.work_dir) && !options.accept_new_database) {
    return LostDatabase(options);
  }
  std::error_code error;
  if (new_database || options.accept_new_work_dir ||
      std::filesystem::is_directory(options.work_dir + "/jobs", error)) {
    return absl::OkStatus();
  }
  NORMLAB_ASSIGN_OR_RETURN(const bool needs_files, NeedsFiles(store));
  if (needs_files) {
    return absl::FailedPreconditionError(absl::StrCat(
        "there is no folder ", options.work_dir, "/jobs, but the database ", DatabaseOf(options),
        " knows jobs with checkpoints there: is the disk of the work folder mounted? Mount it, or "
        "name "
        "the "
        "right folder with --work_dir; if its files are lost for good, start the server once with "
        "--accept_new_work_dir"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWorkFolder(const std::string& work_dir,
                             const std::string& mark,
                             int64_t least_free_bytes) {
  if (!mark.empty()) {
    const absl::StatusOr<std::string> found = ReadMark(work_dir);
    if (!found.ok()) {
      return absl::UnavailableError(
          absl::StrCat("the work folder cannot be read: ", found.status().message(),
                       "; mend its disk, or what this says"));
    }
    if (*found != mark) {
      return absl::UnavailableError(NotTheFolder(work_dir));
    }
  }
  struct statvfs disk = {};
  if (statvfs(work_dir.c_str(), &disk) != 0) {
    return absl::UnavailableError(absl::StrCat("the work folder ", work_dir,
                                               " cannot be used: ", std::strerror(errno),
                                               "; mend its disk, or what this says"));
  }
  if ((disk.f_flag & ST_RDONLY) != 0) {
    return absl::UnavailableError(absl::StrCat("the disk of the work folder ", work_dir,
                                               " is read-only; mend it and mount it writable"));
  }
  const auto free_bytes = static_cast<int64_t>(disk.f_bavail * disk.f_frsize);
  if (free_bytes < least_free_bytes) {
    return absl::UnavailableError(absl::StrCat(
        "the disk of the work folder ", work_dir, " is full: ", free_bytes / kMiB, " MiB free, ",
        (least_free_bytes + kMiB - 1) / kMiB, " needed; ",
        common::CacheBytes(work_dir + "/cache") / kMiB,
        " MiB there are decoded data sets, which go by themselves ",
        absl::FormatDuration(common::kLeastCache.least_grace),
        " after their last use. Make room, for example delete jobs that nobody needs"));
  }
  return absl::OkStatus();
}

absl::Status MakeRoom(const std::string& work_dir,
                      const std::string& cache_dir,
                      const std::string& mark,
                      int64_t least_free_bytes) {
  absl::Status status = CheckWorkFolder(work_dir, mark, least_free_bytes);
  if (status.ok() || !CheckWorkFolder(work_dir, mark, 0).ok()) {
    return status;
  }
  common::PruneCacheFolder(cache_dir, common::kLeastCache);
  return CheckWorkFolder(work_dir, mark, least_free_bytes);
}

absl::Status CheckWorkFolderIsKnown(const std::string& data_dir, const std::string& work_dir) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string known, ReadMark(data_dir));
  std::error_code error;
  const bool there = std::filesystem::is_directory(work_dir, error);
  if (there && known.empty()) {
    return absl::OkStatus();
  }
  if (there) {
    NORMLAB_ASSIGN_OR_RETURN(const std::string found, ReadMark(work_dir));
    if (found == known) {
      return absl::OkStatus();
    }
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the work folder ", work_dir,
      there ? " is not the one that the jobs of " : " is not there, where the jobs of ", data_dir,
      " have their files", there ? " in" : "",
      ": is its disk mounted? Mount it, or name the --work_dir that the server has (its flags are "
      "in "
      "its --flagfile)"));
}

bool IsAnotherWorkFolder(const std::string& data_dir, const std::string& work_dir) {
  const absl::StatusOr<std::string> known = ReadMark(data_dir);
  return known.ok() && !known->empty() &&
         absl::IsFailedPrecondition(CheckWorkFolderIsKnown(data_dir, work_dir));
}

absl::Status CheckDatabaseIsThere(const WorkFolderOptions& options) {
  const std::string database = DatabaseOf(options);
  const bool empty = IsEmptyFile(database) && IsEmptyFile(database + "-wal");
  return empty && !options.accept_new_database && HasJobFolders(options.work_dir)
             ? LostDatabase(options)
             : absl::OkStatus();
}

absl::StatusOr<std::string> ClaimWorkFolder(Store& store, const WorkFolderOptions& options) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string known, ReadMark(options.data_dir));
  NORMLAB_ASSIGN_OR_RETURN(std::string mark, ReadMark(options.work_dir));
  if (!known.empty() && known == mark) {
    return mark;
  }
  if (!known.empty() && !options.accept_new_work_dir) {
    spdlog::error("no job is started: {}", NotTheFolder(options.work_dir));
    return known;
  }
  if (known.empty()) {
    NORMLAB_RETURN_IF_ERROR(CheckUnknownFolder(store, options));
  }
  // A full disk must not keep the server from starting; nothing starts on it anyway.
  absl::Status written;
  if (mark.empty()) {
    mark = absl::BytesToHexString(common::RandomBytes(kMarkBytes));
    written = WriteMark(options.work_dir, mark);
  }
  if (written.ok()) {
    written = WriteMark(options.data_dir, mark);
  }
  if (!written.ok()) {
    spdlog::warn("the work folder cannot be marked: {}", std::string(written.message()));
    return std::string();
  }
  if (!known.empty()) {
    spdlog::warn("{} is the work folder from now on, as --accept_new_work_dir says",
                 options.work_dir);
  }
  return mark;
}

}  // namespace normlab::server
