#pragma once

#include <string>

#include "absl/time/time.h"

namespace normlab::server {

// What the service manager that started this process is told, over the socket that it named in
// NOTIFY_SOCKET: systemd's protocol, sd_notify(3). Without one, everything here does nothing.
// Thread-safe.
class ServiceManager {
 public:
  // The server takes jobs. `status` is shown to people (systemctl status).
  void Ready(const std::string& status) const;
  // It is ending.
  void Stopping() const;
  // It is alive: to be said at least once in WatchdogTimeout().
  void Alive() const;

  // After how long without Alive the service manager takes this process for hung; zero: never.
  absl::Duration WatchdogTimeout() const;
};

}  // namespace normlab::server
