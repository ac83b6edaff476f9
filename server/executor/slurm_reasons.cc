#include "server/executor/slurm_reasons.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace normlab::server {
namespace {

// Words of squeue(1), "JOB REASON CODES".
constexpr std::array<absl::string_view, 3> kOfThePartition = {
    "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit"};
constexpr std::array<absl::string_view, 6> kNotAllowed = {"AccountNotAllowed", "InvalidAccount",
                                                          "AccountingPolicy",  "QOSNotAllowed",
                                                          "InvalidQOS",        "InvalidQos"};
constexpr std::array<absl::string_view, 4> kHeld = {
    "JobHeldUser", "JobHeldAdmin", "launch_failed_requeued_held", "job_requeued_in_held_state"};

// Limits of one job, as "QOSMaxWallDurationPerJobLimit" and "AssocMaxCpuPerJobLimit": others' ends do not
// change them.
bool IsLimitOfOneJob(absl::string_view reason) {
  return (absl::StartsWith(reason, "QOS") || absl::StartsWith(reason, "Assoc")) &&
         absl::StrContains(reason, "PerJob");
}

template <typename Words>
bool IsOneOf(absl::string_view reason, const Words& words) {
  return std::find(words.begin(), words.end(), reason) != words.end();
}

}  // namespace

std::string ReasonForPeople(absl::string_view reason) {
  constexpr absl::string_view kNever =
      " (Slurm will not start it as it is: cancel it, and submit it with ";
  if (IsOneOf(reason, kOfThePartition)) {
    return absl::StrCat(reason, kNever,
                        "another slurm.partition, a smaller slurm.time_limit or fewer threads)");
  }
  if (reason == "BadConstraints") {
    return absl::StrCat(reason, kNever,
                        "another slurm.constraint or slurm.partition, or fewer threads)");
  }
  if (IsOneOf(reason, kNotAllowed)) {
    return absl::StrCat(reason, kNever, "another slurm.account, slurm.qos or slurm.partition)");
  }
  if (IsLimitOfOneJob(reason)) {
    return absl::StrCat(reason, kNever,
                        "fewer threads, a smaller slurm.time_limit or another slurm.qos)");
  }
  if (IsOneOf(reason, kHeld)) {
    return absl::StrCat(reason,
                        " (it is held in Slurm: have it let go with `scontrol release`, or cancel "
                        "it)");
  }
  return std::string(reason);
}

}  // namespace normlab::server
