#pragma once

#include <httplib.h>

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace normlab::server {

// A request that is there as a whole, and the answer to it, as the library's idea of a connection:
// nothing on it ever waits.
//
// For one thread. `request` must outlive it.
class HttpStream final : public httplib::Stream {
 public:
  explicit HttpStream(absl::string_view request) : left_(request) {}

  // What was written.
  const std::string& answer() const { return answer_; }

  bool is_readable() const override { return !left_.empty(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* out, size_t size) override;
  ssize_t write(const char* data, size_t size) override;
  // No handler asks for an address.
  void get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  socket_t socket() const override { return INVALID_SOCKET; }

 private:
  absl::string_view left_;
  std::string answer_;
};

}  // namespace normlab::server
