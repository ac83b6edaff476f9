#pragma once

namespace normlab::server {

// The version of this build, for example 0.1.0.
const char* Version();

}  // namespace normlab::server
