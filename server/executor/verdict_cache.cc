#include "server/executor/verdict_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace normlab::server {
namespace {

// A report has some hundred bytes. Who has more data sets in turn asks the helper, which remembers
// them too.
constexpr size_t kMaxReports = 1000;

// Everything that the helper's answer follows from, apart from the files themselves. Of requests
// with initial weights the network would belong to it, but those are never remembered.
std::string KeyOf(const v1::InspectDataRequest& request) {
  v1::InspectDataRequest key = request;
  key.clear_resolved_spec();
  return key.SerializeAsString();  // no maps in it: equal requests have equal bytes
}

bool IsUnchanged(const v1::FileVersion& version) {
  struct stat info {};
  return stat(version.path().c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         info.st_dev == version.device() && info.st_ino == version.inode() &&
         info.st_size == version.bytes() &&
         int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec ==
             version.modified_ns();
}

}  // namespace

std::shared_ptr<const v1::DataReport> VerdictCache::Find(const v1::InspectDataRequest& request) {
  if (request.has_initial_weights()) {
    return nullptr;
  }
  const std::string key = KeyOf(request);
  std::shared_ptr<const v1::DataReport> report;
  {
    absl::MutexLock lock(&mu_);
    const auto found = reports_.find(key);
    if (found == reports_.end()) {
      return nullptr;
    }
    report = found->second;
  }
  if (std::all_of(report->files().begin(), report->files().end(), IsUnchanged)) {
    return report;
  }
  absl::MutexLock lock(&mu_);
  const auto found = reports_.find(key);
  if (found != reports_.end() && found->second == report) {
    reports_.erase(found);
  }
  return nullptr;
}

void VerdictCache::Remember(const v1::InspectDataRequest& request, const v1::DataReport& report) {
  if (!report.lasting() || !report.violations().empty() || request.has_initial_weights()) {
    return;
  }
  auto kept = std::make_shared<const v1::DataReport>(report);
  absl::MutexLock lock(&mu_);
  if (reports_.size() >= kMaxReports) {
    reports_.clear();
  }
  reports_[KeyOf(request)] = std::move(kept);
}

}  // namespace normlab::server
