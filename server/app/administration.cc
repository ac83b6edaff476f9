#include "server/app/administration.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "server/api/format.h"
#include "server/app/listen_address.h"
#include "server/monitor/http_server.h"
#include "server/scheduler/work_folder.h"
#include "server/store/backup.h"

namespace normlab::server {
namespace {

// The line http=HOST:PORT of a server's port file.
absl::StatusOr<std::string> HttpAddressOf(const std::string& port_file) {
  const absl::StatusOr<std::string> text = common::ReadFile(port_file, 4096);
  if (!text.ok()) {
    return absl::UnavailableError(
        absl::StrCat("there is no ", port_file, "; is normlabd running, with this --port_file?"));
  }
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (absl::ConsumePrefix(&line, "http=")) {
      return std::string(line);
    }
  }
  return absl::UnavailableError(
      absl::StrCat(port_file, " has no line http=HOST:PORT; name the --port_file of normlabd"));
}

}  // namespace

absl::Status CheckHealth(const RawOptions& options) {
  std::string where = options.http_listen;
  if (!options.port_file.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(where, HttpAddressOf(options.port_file));
  }
  NORMLAB_ASSIGN_OR_RETURN(ListenAddress address, ResolveListenAddress("http_listen", where));
  if (address.host == "0.0.0.0") {
    address.host = "127.0.0.1";
  } else if (address.host == "::") {
    address.host = "::1";
  }
  return AskWhetherReady(address.host, address.port);
}

absl::StatusOr<std::string> BackUpDataFolder(const RawOptions& options, const std::string& target) {
  const std::string data_dir = options.data_dir.empty() ? DefaultDataDir() : options.data_dir;
  const std::string own_work_dir = data_dir + "/work";
  const std::string work_dir = options.work_dir.empty() ? own_work_dir : options.work_dir;
  const auto is_there = [](const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
  };
  // A data folder that never had a server on it, or a database that is not there, is for BackUp to judge.
  const bool unused = work_dir == own_work_dir && !is_there(work_dir) &&
                      !is_there(absl::StrCat(data_dir, "/", kWorkMarkFile));
  if (is_there(data_dir + "/normlab.db") && !unused) {
    NORMLAB_RETURN_IF_ERROR(CheckWorkFolderIsKnown(data_dir, work_dir));
  }
  NORMLAB_ASSIGN_OR_RETURN(const BackupSummary made,
                           BackUp({.data_dir = data_dir, .work_dir = work_dir, .target = target}));
  std::string text = absl::StrFormat(
      "%s: %d jobs, a database of %s, %d files of jobs (%s), %d files of data sets (%s); schema "
      "%d, "
      "%.1f s",
      made.target, made.jobs, FormatBytes(made.database_bytes), made.job_files,
      FormatBytes(made.job_file_bytes), made.dataset_files, FormatBytes(made.dataset_bytes),
      made.schema, made.seconds);
  if (made.missing_files > 0) {
    absl::StrAppend(&text, "\n", made.missing_files,
                    " files that the database names were not there; jobs that need one of those "
                    "checkpoints go on from an earlier one, or from the beginning");
  }
  return text;
}

}  // namespace normlab::server
