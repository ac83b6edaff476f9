#include "server/app/slurm_leftovers.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

constexpr absl::string_view kScheme = "slurm/";
constexpr size_t kMostNamed = 10;

// Of "slurm/4711/3/name" what scancel calls it, "4711_3"; its name where no number was noted.
std::string SlurmWord(absl::string_view identity) {
  const std::vector<absl::string_view> parts = absl::StrSplit(identity, absl::MaxSplits('/', 3));
  if (parts.size() != 4) {
    return std::string(identity);
  }
  if (parts[1] == "0") {
    return absl::StrCat("--name=", parts[3]);
  }
  return parts[2] == "-" ? std::string(parts[1]) : absl::StrCat(parts[1], "_", parts[2]);
}

}  // namespace

absl::Status CheckSlurmLeftovers(Store& store, bool abandon) {
  std::vector<std::string> words;
  std::vector<std::string> damaged;  // are dealt with when they are taken up
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Job> active, store.ActiveJobs(&damaged));
  for (const v1::Job& job : active) {
    const v1::Attempt* attempt = CurrentAttempt(job);
    const absl::StatusOr<std::string> id = ParseJobName(job.name());
    if (attempt == nullptr || !id.ok()) {
      continue;
    }
    const absl::StatusOr<AttemptSecrets> secrets =
        store.GetAttemptSecrets({*id, attempt->number()});
    if (!secrets.ok() || !absl::StartsWith(secrets->process_identity, kScheme)) {
      continue;
    }
    words.push_back(SlurmWord(secrets->process_identity));
    if (abandon) {
      spdlog::warn("{} attempt {} is abandoned: end it in Slurm with `scancel {}`", job.name(),
                   attempt->number(), words.back());
    }
  }
  if (words.empty() || abandon) {
    return absl::OkStatus();
  }
  const size_t count = words.size();
  words.resize(std::min(count, kMostNamed));
  return absl::FailedPreconditionError(absl::StrCat(
      count, " unfinished attempt", count == 1 ? "" : "s", " of this data folder belong",
      count == 1 ? "s" : "", " to Slurm and would go on there (", absl::StrJoin(words, " "),
      count > words.size() ? " ..." : "",
      "); start with --executor=slurm, and cancel or pause their jobs before you change to "
      "--executor=local; or give --abandon_slurm_attempts once, after which the log names them for "
      "scancel, and their jobs are run again here"));
}

}  // namespace normlab::server
