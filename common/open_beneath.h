#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace normlab::common {

// What a path may have in it.
enum class Links {
  kBeneath,  // links, as long as what they name stays below the root
  kNone,
};

// Opens `relative` below the open folder `root` with the flags of open(2); nothing outside is ever
// opened, whatever happens to the folders meanwhile (openat2 with RESOLVE_BENEATH; where the kernel
// or a container's filter has no openat2, a walk that follows no links at all). Errors as errno has
// them; EXDEV (a path that leads outside) and ELOOP (a link that is not allowed) are
// PERMISSION_DENIED. Blocks for disk; thread-safe; the caller owns the descriptor.
absl::StatusOr<UniqueFd> OpenBeneath(int root,
                                     const std::string& relative,
                                     int flags,
                                     Links links = Links::kBeneath);

// What OpenBeneath does where there is no openat2; apart for its test.
absl::StatusOr<UniqueFd> WalkBeneath(int root, const std::string& relative, int flags);

}  // namespace normlab::common
