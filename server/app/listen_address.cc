#include "server/app/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/unique_fd.h"

#include <arpa/inet.h>

namespace normlab::server {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::Status BadAddress(absl::string_view flag, absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", text, ": ", why,
                                                 "; write HOST:PORT, for example 127.0.0.1:7600"));
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

AddressList Resolve(const std::string& host, const std::string& port, int flags, int& error) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  return AddressList(error == 0 ? list : nullptr, &freeaddrinfo);
}

}  // namespace

std::string ListenAddress::ToString() const {
  return ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<ListenAddress> ResolveListenAddress(absl::string_view flag, absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) {
    return BadAddress(flag, text, "there is no port");
  }
  absl::string_view host = text.substr(0, colon);
  int port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return BadAddress(flag, text, "the port is not a number from 0 to 65535");
  }
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) {
      return BadAddress(flag, text, "the closing bracket is missing");
    }
  } else if (host.find(':') != absl::string_view::npos) {
    return BadAddress(flag, text, "an IPv6 address stands in brackets");
  }
  if (host.empty()) {
    return BadAddress(flag, text, "there is no host");
  }

  int error = 0;
  const AddressList list = Resolve(std::string(host), absl::StrCat(port), 0, error);
  if (list == nullptr) {
    return BadAddress(flag, text, absl::StrCat("cannot resolve the host: ", gai_strerror(error)));
  }
  const addrinfo* chosen = list.get();
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET) {
      chosen = entry;
      break;
    }
  }
  char numeric[NI_MAXHOST];
  error = getnameinfo(chosen->ai_addr, chosen->ai_addrlen, numeric, sizeof(numeric), nullptr, 0,
                      NI_NUMERICHOST);
  if (error != 0) {
    return BadAddress(flag, text, gai_strerror(error));
  }
  return ListenAddress{.host = numeric,
                       .port = port,
                       .ipv6 = chosen->ai_family == AF_INET6,
                       .loopback = IsLoopback(*chosen->ai_addr)};
}

absl::Status RequireLoopback(absl::string_view flag, const ListenAddress& address) {
  if (address.loopback) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("--", flag, "=", address.ToString(),
                   " is not a loopback address, and with --auth=none whoever reaches it could run "
                   "jobs and read everything; listen on 127.0.0.1:",
                   address.port, " and come from other machines through a tunnel: ssh -L ",
                   address.port, ":127.0.0.1:", address.port,
                   " THIS_HOST, or give --auth=tokens with --tokens_file, --tls_cert and "
                   "--tls_key"));
}

std::string WhyNotListening(const ListenAddress& address) {
  int error = 0;
  const AddressList list =
      Resolve(address.host, absl::StrCat(address.port), AI_NUMERICHOST | AI_PASSIVE, error);
  if (list == nullptr) {
    return gai_strerror(error);
  }
  const common::UniqueFd socket_fd(
      socket(list->ai_family, list->ai_socktype | SOCK_CLOEXEC, list->ai_protocol));
  const int yes = 1;
  setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (!socket_fd.valid() || bind(socket_fd.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      listen(socket_fd.get(), 1) != 0) {
    return std::strerror(errno);
  }
  return "";
}

}  // namespace normlab::server
