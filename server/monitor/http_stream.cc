#include "server/monitor/http_stream.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"

#include "common/clock.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kStopCheckInterval = absl::Milliseconds(100);

absl::Duration Now() {
  return common::Clock::Real().Monotonic();
}

template <typename GetName>
void NameOf(socket_t socket, const GetName& get_name, std::string& ip, int& port) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  char host[NI_MAXHOST];
  char service[NI_MAXSERV];
  if (get_name(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof(host), service,
                  sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    ip = host;
    (void)absl::SimpleAtoi(service, &port);
  }
}

}  // namespace

HttpStream::HttpStream(socket_t socket, absl::Duration limit, const std::atomic<bool>& stopping)
    : socket_(socket), stopping_(stopping), deadline_(Now() + limit) {}

bool HttpStream::WaitFor(short events, absl::Duration until) const {  // NOLINT: what poll takes
  while (!stopping_.load()) {
    const absl::Duration left = until - Now();
    if (left <= absl::ZeroDuration()) {
      return false;
    }
    pollfd entry = {socket_, events, 0};
    const auto wait_ms = static_cast<int>(absl::ToInt64Milliseconds(
        absl::Ceil(std::min(left, kStopCheckInterval), absl::Milliseconds(1))));
    const int ready = poll(&entry, 1, wait_ms);
    if (ready > 0) {
      return true;
    }
    if (ready < 0 && errno != EINTR) {
      return false;
    }
  }
  return false;
}

bool HttpStream::WaitForRequest(absl::Duration limit) const {
  return WaitFor(POLLIN, std::min(Now() + limit, deadline_));
}

bool HttpStream::is_readable() const {
  return begin_ < end_ || WaitFor(POLLIN, deadline_);
}

bool HttpStream::is_writable() const {
  return WaitFor(POLLOUT, deadline_);
}

ssize_t HttpStream::read(char* out, size_t size) {
  if (begin_ == end_) {
    if (!WaitFor(POLLIN, deadline_)) {
      return -1;
    }
    const ssize_t received = recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (received <= 0) {
      return received;
    }
    begin_ = 0;
    end_ = static_cast<size_t>(received);
  }
  const size_t count = std::min(size, end_ - begin_);
  std::memcpy(out, buffer_.data() + begin_, count);
  begin_ += count;
  return static_cast<ssize_t>(count);
}

ssize_t HttpStream::write(const char* data, size_t size) {
  return WaitFor(POLLOUT, deadline_) ? send(socket_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;
}

void HttpStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  NameOf(socket_, getpeername, ip, port);
}

void HttpStream::get_local_ip_and_port(std::string& ip, int& port) const {
  NameOf(socket_, getsockname, ip, port);
}

}  // namespace normlab::server
