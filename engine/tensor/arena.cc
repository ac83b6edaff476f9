#include "engine/tensor/arena.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

// From this size on, arenas ask for 2 MiB pages: fewer TLB misses in kernels that stream over all
// of them.
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

}  // namespace

Arena::Arena(int64_t floats) : size_(floats) {
  constexpr int64_t kMaxFloats = std::numeric_limits<int64_t>::max() / 8;
  if (floats < 0 || floats > kMaxFloats) {
    throw std::bad_alloc();
  }
  const int64_t wanted = floats * static_cast<int64_t>(sizeof(float));
  const int64_t alignment = wanted >= kHugePageBytes ? kHugePageBytes : kTensorAlignment;
  // At least one unit, so that an empty arena has a valid pointer too.
  const int64_t bytes = (wanted / alignment + 1) * alignment;
  void* memory = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(bytes));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  if (alignment == kHugePageBytes) {
    madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint: failing costs speed only
  }
  // Also touches every page now, so that the first steps do not pay for it.
  std::memset(memory, 0, static_cast<size_t>(wanted > 0 ? wanted : bytes));
  data_.reset(static_cast<float*>(memory));
}

absl::StatusOr<Arena> Arena::Create(int64_t floats) {
  try {
    return Arena(floats);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("could not allocate ", floats,
                     " numbers; give the job more memory, or use a smaller batch or model"));
  }
}

void Arena::Release::operator()(float* data) const {
  std::free(data);
}

}  // namespace normlab::engine
