#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"

namespace normlab::server {

// What an owner used counts half after so long.
inline constexpr absl::Duration kShareHalfLife = absl::Hours(1);

// What every owner has used, in core-seconds that decay: a core-second that was used d ago counts
// 2^(-d / half-life). Cores that are held count as they are used, so the amount at time t is the
// integral of cores(s) 2^(-(t - s) / half-life) ds.
//
// Times are monotonic. Pure arithmetic, O(1) a call but for Usage; not thread-safe.
class ShareLedger {
 public:
  explicit ShareLedger(absl::Duration half_life = kShareHalfLife) : half_life_(half_life) {}

  // Something that was used at about `when`, before this ledger existed.
  void Add(const std::string& owner, double core_seconds, absl::Duration when);
  // The owner holds so many cores more, since `since` (which may lie in the past).
  void Hold(const std::string& owner, int cores, absl::Duration since);
  // From now on it holds so many less.
  void Release(const std::string& owner, int cores, absl::Duration now);

  // Core-seconds by owner; owners without a trace of use are left out, and forgotten.
  std::map<std::string, double> Usage(absl::Duration now);

 private:
  struct Account {
    double core_seconds = 0;  // as of `at`
    absl::Duration at = -absl::InfiniteDuration();
    int cores = 0;  // held since then
  };

  double Decay(absl::Duration elapsed) const;
  void Advance(Account& account, absl::Duration to) const;

  const absl::Duration half_life_;
  std::map<std::string, Account> accounts_;
};

}  // namespace normlab::server
