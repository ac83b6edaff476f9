#pragma once

#include <cstdint>
#include <string>

namespace normlab::server {

// "512 B", "3.4 MiB", "12.0 GiB": for messages to people.
std::string FormatBytes(int64_t bytes);

}  // namespace normlab::server
