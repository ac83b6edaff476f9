#include "engine/tensor/buffer_pool.h"

#include <algorithm>
#include <limits>

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

int64_t RoundUp(int64_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

struct Placed {
  Buffer* buffer;
  int64_t offset;
};

// The lowest offset at which `buffer` overlaps none of `placed` that is needed at the same time.
// `placed` is in the order of offsets.
int64_t FindPlace(const Buffer& buffer, const std::vector<Placed>& placed) {
  int64_t offset = 0;
  for (const Placed& other : placed) {
    if (other.buffer->last_use < buffer.first_use || buffer.last_use < other.buffer->first_use) {
      continue;
    }
    if (offset + buffer.bytes <= other.offset) {
      break;
    }
    offset = std::max(offset, other.offset + other.buffer->bytes);
  }
  return offset;
}

}  // namespace

Buffer* BufferPool::Reserve(int64_t bytes, int tick, bool kept) {
  Buffer buffer;
  buffer.bytes = RoundUp(bytes);
  buffer.first_use = tick;
  buffer.last_use = tick;
  buffer.kept = kept;
  bytes_ += buffer.bytes;
  return &owned_.emplace_back(buffer);
}

void BufferPool::Use(Buffer& buffer, int tick) {
  buffer.first_use = std::min(buffer.first_use, tick);
  buffer.last_use = std::max(buffer.last_use, tick);
}

Buffer* BufferPool::Borrow(float* data, int64_t floats) {
  Buffer buffer;
  buffer.bytes = floats * static_cast<int64_t>(sizeof(float));
  buffer.kept = true;
  buffer.data = reinterpret_cast<std::byte*>(data);
  return &borrowed_.emplace_back(buffer);
}

absl::Status BufferPool::Allocate() {
  std::vector<Buffer*> order;
  for (Buffer& buffer : owned_) {
    if (buffer.kept) {
      buffer.first_use = std::numeric_limits<int>::min();
      buffer.last_use = std::numeric_limits<int>::max();
    }
    order.push_back(&buffer);
  }
  // Kept ones lie below all others; among equals the order of reservation counts, so that a plan
  // always looks the same.
  std::stable_sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) {
    return a->kept != b->kept ? a->kept : a->bytes > b->bytes;
  });
  std::vector<Placed> shared;  // in the order of offsets
  std::vector<Placed> all;
  int64_t kept_bytes = 0;
  int64_t shared_bytes = 0;
  for (Buffer* buffer : order) {
    if (buffer->kept) {
      all.push_back({buffer, kept_bytes});
      kept_bytes += buffer->bytes;
      continue;
    }
    const Placed placed = {buffer, FindPlace(*buffer, shared)};
    shared.insert(
        std::upper_bound(shared.begin(), shared.end(), placed,
                         [](const Placed& a, const Placed& b) { return a.offset < b.offset; }),
        placed);
    shared_bytes = std::max(shared_bytes, placed.offset + buffer->bytes);
  }
  bytes_ = kept_bytes + shared_bytes;
  NORMLAB_ASSIGN_OR_RETURN(arena_, Arena::Create(bytes_ / static_cast<int64_t>(sizeof(float))));
  auto* base = reinterpret_cast<std::byte*>(arena_.data());
  for (const Placed& placed : all) {
    placed.buffer->data = base + placed.offset;
  }
  for (const Placed& placed : shared) {
    placed.buffer->data = base + kept_bytes + placed.offset;
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
