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

absl::Status RemoveCheckpointFolders(const std::string& work_dir,
                                     const std::string& job_id,
                                     int32_t before) {
  if (!common::IsId(job_id)) {
    return InternalError(absl::StrCat("no job has the id ", QuotedForMessage(job_id)));
  }
  absl::Status first_failure;
  for (int32_t number = 1; number < before; ++number) {
    const std::string folder =
        absl::StrCat(work_dir, "/", AttemptFolder(job_id, number), "/checkpoints");
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    if (error) {
      first_failure.Update(
          StorageUnavailable(absl::StrCat("cannot remove ", folder, ": ", error.message())));
    }
  }
  return first_failure;
}

}  // namespace normlab::server
