#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "absl/status/status.h"

#include "engine/tensor/arena.h"

namespace normlab::engine {

// How long the content of a buffer is needed. All buffers of a role other than kKept share the same
// memory.
enum class BufferRole {
  kKept,          // its own memory for as long as the plan lives: activations, saved statistics
  kGradientEven,  // gradients of activations: a layer reads one of the two and writes the other
  kGradientOdd,
  kSourceCopy,  // copies in another layout, used up within one layer's pass
  kGradientCopy,
  kWeightsCopy,
  kScratchpad,  // primitives' own scratch memory, used up within one execution
};

// A piece of a plan's memory; `data` is null until the pool is allocated.
struct Buffer {
  int64_t bytes = 0;
  BufferRole role = BufferRole::kKept;
  std::byte* data = nullptr;

  float* floats() const { return reinterpret_cast<float*>(data); }
};

// Collects the memory needs of a plan, then serves them all from one arena.
//
// Thread-compatible. Owns the buffers and their memory; Buffer pointers stay valid as long as the
// pool.
class BufferPool {
 public:
  // A buffer of at least `bytes`, 64-byte aligned and zeroed at first. Before Allocate only.
  Buffer* Reserve(int64_t bytes, BufferRole role = BufferRole::kKept);
  // A buffer over memory of someone else, which must outlive the pool.
  Buffer* Borrow(float* data, int64_t floats);

  // Fills in every buffer's data. Call once. RESOURCE_EXHAUSTED: out of memory.
  absl::Status Allocate();

  // Bytes of the pool's own memory, known before Allocate too.
  int64_t bytes() const;

 private:
  std::deque<Buffer> kept_;
  std::deque<Buffer> shared_;
  std::deque<Buffer> borrowed_;
  std::map<BufferRole, int64_t> shared_bytes_;  // largest buffer of the role
  Arena arena_;
};

}  // namespace normlab::engine
