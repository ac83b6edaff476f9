#include "server/monitor/http_stream.h"

namespace normlab::server {

ssize_t HttpStream::read(char* out, size_t size) {
  const size_t count = left_.copy(out, size);
  left_.remove_prefix(count);
  return static_cast<ssize_t>(count);
}

ssize_t HttpStream::write(const char* data, size_t size) {
  answer_.append(data, size);
  return static_cast<ssize_t>(size);
}

}  // namespace normlab::server
