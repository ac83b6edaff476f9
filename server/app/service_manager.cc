#include "server/app/service_manager.h"

#include <cstdint>

#include "absl/strings/str_cat.h"

#include <systemd/sd-daemon.h>

namespace normlab::server {

// A message that cannot be sent is of no use to anybody but the service manager, who acts on its
// absence: so what these answer is not looked at.

void ServiceManager::Ready(const std::string& status) const {
  sd_notify(0, absl::StrCat("READY=1\nSTATUS=", status).c_str());
}

void ServiceManager::Stopping() const {
  sd_notify(0, "STOPPING=1\nSTATUS=Draining: workers write checkpoints");
}

void ServiceManager::Alive() const {
  sd_notify(0, "WATCHDOG=1");
}

absl::Duration ServiceManager::WatchdogTimeout() const {
  uint64_t microseconds = 0;
  return sd_watchdog_enabled(0, &microseconds) > 0
             ? absl::Microseconds(static_cast<int64_t>(microseconds))
             : absl::ZeroDuration();
}

}  // namespace normlab::server
