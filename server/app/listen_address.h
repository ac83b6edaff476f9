#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::server {

// A TCP address to listen on, resolved once, so that what was checked is what is bound.
struct ListenAddress {
  std::string host;  // numeric, without brackets
  int port = 0;      // 0: any free one
  bool ipv6 = false;
  bool loopback = false;

  // "127.0.0.1:7600", "[::1]:7600".
  std::string ToString() const;
};

// Reads HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address in brackets; of a
// name's addresses an IPv4 one is preferred. INVALID_ARGUMENT, naming `flag`, when it has another
// form or does not resolve.
absl::StatusOr<ListenAddress> ResolveListenAddress(absl::string_view flag, absl::string_view text);

// OK for a loopback address; FAILED_PRECONDITION otherwise, with what to do instead: with
// --auth=none whoever reaches the port may do everything.
absl::Status RequireLoopback(absl::string_view flag, const ListenAddress& address);

// Why nothing can listen on the address, found out by trying: "Address already in use"; empty: it
// can. For the library that does not tell.
std::string WhyNotListening(const ListenAddress& address);

}  // namespace normlab::server
