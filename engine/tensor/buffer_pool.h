#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"

#include "engine/tensor/arena.h"

namespace normlab::engine {

// A piece of a plan's memory; `data` is null until the pool is allocated.
struct Buffer {
  int64_t bytes = 0;
  // The ticks of the plan's clock between which the content is needed, both included.
  int first_use = 0;
  int last_use = 0;
  // Keeps its memory for as long as the plan lives.
  bool kept = false;
  std::byte* data = nullptr;

  float* floats() const { return reinterpret_cast<float*>(data); }
};

// Collects the memory needs of a plan, then serves them all from one arena: buffers that are never
// needed at the same tick may get the same memory (the largest are placed first, each as low as
// possible).
//
// Thread-compatible. Owns the buffers and their memory; Buffer pointers stay valid as long as the
// pool.
class BufferPool {
 public:
  // A buffer of at least `bytes`, 64-byte aligned, needed at `tick`; kept ones are zeroed at first,
  // others hold anything. Before Allocate only.
  Buffer* Reserve(int64_t bytes, int tick, bool kept);
  // The content is needed at `tick` too. Before Allocate only.
  static void Use(Buffer& buffer, int tick);
  // A buffer over memory of someone else, which must outlive the pool.
  Buffer* Borrow(float* data, int64_t floats);

  // Fills in every buffer's data. Call once. RESOURCE_EXHAUSTED: out of memory.
  absl::Status Allocate();

  // Bytes of the pool's own memory; of buffers side by side before Allocate.
  int64_t bytes() const { return bytes_; }

 private:
  std::deque<Buffer> owned_;
  std::deque<Buffer> borrowed_;
  int64_t bytes_ = 0;
  Arena arena_;
};

}  // namespace normlab::engine
