#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// What the helper found out about data sets that are in order, for as long as their files have the
// same device, inode, size and time of change: so that most jobs are admitted without asking it. The
// files are not opened here, only looked at from outside (stat). An attempt asks the helper in any
// case, so a verdict that is outdated in some other way costs no more than a job that fails with the
// reason. Thread-safe.
class VerdictCache {
 public:
  // The report on the same request, when it still holds; else null. Looks at the disk's folders.
  std::shared_ptr<const v1::DataReport> Find(const v1::InspectDataRequest& request)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Remembers a report that says that it lasts; others are left alone.
  void Remember(const v1::InspectDataRequest& request, const v1::DataReport& report)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::shared_ptr<const v1::DataReport>> reports_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
