#pragma once

#include <cstdint>

// Defaults that both validation and resolution need.
namespace normlab::engine {

inline constexpr int32_t kDefaultBatchSize = 64;
// Of ghost batch norm; smaller batches have one ghost.
inline constexpr int64_t kDefaultGhostSize = 32;

}  // namespace normlab::engine
