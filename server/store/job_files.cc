#include "server/store/job_files.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "common/ids.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {

absl::Status RemoveJobFiles(const std::string& work_dir, const std::string& job_id) {
  if (!common::IsId(job_id)) {
    return InternalError(absl::StrCat("no job has the id ", QuotedForMessage(job_id)));
  }
  const std::string folder = absl::StrCat(work_dir, "/", JobName(job_id));
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  return error ? StorageUnavailable(absl::StrCat("cannot remove ", folder, ": ", error.message()))
               : absl::OkStatus();
}

}  // namespace normlab::server
