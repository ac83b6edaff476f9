#pragma once

namespace normlab::common {

// Header of a worker's call: its Hello, without the plan, as bytes (gRPC has names that end with -bin carry
// them). Where anybody may connect, the server judges it before it reads, or has room for, any message.
inline constexpr char kHelloHeader[] = "normlab-hello-bin";

}  // namespace normlab::common
