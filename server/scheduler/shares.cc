#include "server/scheduler/shares.h"

#include <cmath>
#include <numbers>

namespace normlab::server {
namespace {

// Less than this is no trace of use.
constexpr double kForgotten = 1e-3;

}  // namespace

double ShareLedger::Decay(absl::Duration elapsed) const {
  return std::exp2(-absl::FDivDuration(elapsed, half_life_));
}

void ShareLedger::Advance(Account& account, absl::Duration to) const {
  if (to <= account.at) {
    return;
  }
  if (account.at > -absl::InfiniteDuration()) {
    const double decay = Decay(to - account.at);
    account.core_seconds = account.core_seconds * decay + account.cores *
                                                              absl::ToDoubleSeconds(half_life_) /
                                                              std::numbers::ln2 * (1 - decay);
  }
  account.at = to;
}

void ShareLedger::Add(const std::string& owner, double core_seconds, absl::Duration when) {
  Account& account = accounts_[owner];
  Advance(account, when);
  account.core_seconds += core_seconds * Decay(account.at - when);
}

void ShareLedger::Hold(const std::string& owner, int cores, absl::Duration since) {
  Account& account = accounts_[owner];
  Advance(account, since);
  account.core_seconds += cores * absl::ToDoubleSeconds(half_life_) / std::numbers::ln2 *
                          (1 - Decay(account.at - since));
  account.cores += cores;
}

void ShareLedger::Release(const std::string& owner, int cores, absl::Duration now) {
  Account& account = accounts_[owner];
  Advance(account, now);
  account.cores -= cores;
}

std::map<std::string, double> ShareLedger::Usage(absl::Duration now) {
  std::map<std::string, double> usage;
  for (auto it = accounts_.begin(); it != accounts_.end();) {
    Account& account = it->second;
    Advance(account, now);
    if (account.cores == 0 && account.core_seconds < kForgotten) {
      it = accounts_.erase(it);
      continue;
    }
    usage[it->first] = account.core_seconds;
    ++it;
  }
  return usage;
}

}  // namespace normlab::server
