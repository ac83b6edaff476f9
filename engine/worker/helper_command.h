#pragma once

namespace normlab::engine {

// Serves HelperRequests on a connected stream socket, one after another, until the server closes
// it. Each message is its length (uint32, little-endian, at most 160 MiB) and its bytes. Returns the
// exit code: 0 after an orderly end, 1 when the stream broke or carried nonsense (the reason is on
// stderr). Takes `fd`.
int RunHelperCommand(int fd);

}  // namespace normlab::engine
