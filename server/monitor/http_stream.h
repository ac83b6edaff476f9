#pragma once

#include <httplib.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <string>

#include "absl/time/time.h"

namespace normlab::server {

// One connection of the HTTP server: everything that is read and written on it has to be over by one
// deadline, so that a client that sends a byte now and then holds a thread no longer than one that
// sends nothing. Once `*stopping` is true, within a tenth of a second, it reads as ended.
//
// For one thread. Does not own the socket.
class HttpStream final : public httplib::Stream {
 public:
  HttpStream(socket_t socket, absl::Duration limit, const std::atomic<bool>& stopping);

  // Whether a request begins to come within `limit`.
  bool WaitForRequest(absl::Duration limit) const;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* out, size_t size) override;
  ssize_t write(const char* data, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool WaitFor(short events, absl::Duration until) const;  // NOLINT: what poll takes

  const socket_t socket_;
  const std::atomic<bool>& stopping_;
  const absl::Duration deadline_;  // monotonic
  // The library reads headers byte by byte.
  std::array<char, 4096> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace normlab::server
