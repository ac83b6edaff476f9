#include "engine/tensor/buffer_pool.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

int64_t RoundUp(int64_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

}  // namespace

Buffer* BufferPool::Reserve(int64_t bytes, BufferRole role) {
  Buffer buffer;
  buffer.bytes = RoundUp(bytes);
  buffer.role = role;
  if (role == BufferRole::kKept) {
    return &kept_.emplace_back(buffer);
  }
  int64_t& largest = shared_bytes_[role];
  largest = std::max(largest, buffer.bytes);
  return &shared_.emplace_back(buffer);
}

Buffer* BufferPool::Borrow(float* data, int64_t floats) {
  Buffer buffer;
  buffer.bytes = floats * static_cast<int64_t>(sizeof(float));
  buffer.data = reinterpret_cast<std::byte*>(data);
  return &borrowed_.emplace_back(buffer);
}

int64_t BufferPool::bytes() const {
  int64_t sum = 0;
  for (const Buffer& buffer : kept_) {
    sum += buffer.bytes;
  }
  for (const auto& [role, largest] : shared_bytes_) {
    sum += largest;
  }
  return sum;
}

absl::Status BufferPool::Allocate() {
  NORMLAB_ASSIGN_OR_RETURN(arena_, Arena::Create(bytes() / static_cast<int64_t>(sizeof(float))));
  auto* next = reinterpret_cast<std::byte*>(arena_.data());
  std::map<BufferRole, std::byte*> shared_data;
  for (const auto& [role, largest] : shared_bytes_) {
    shared_data[role] = next;
    next += largest;
  }
  for (Buffer& buffer : shared_) {
    buffer.data = shared_data[buffer.role];
  }
  for (Buffer& buffer : kept_) {
    buffer.data = next;
    next += buffer.bytes;
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
