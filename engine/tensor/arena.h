#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace normlab::engine {

// Bytes to which every tensor in an arena is aligned: one cache line, one AVX-512 register.
inline constexpr int64_t kTensorAlignment = 64;

// One zeroed allocation that holds all tensors of one role. Its size never changes.
//
// Thread-compatible. Owns its memory; spans stay valid when the arena is moved and die with it.
class Arena {
 public:
  Arena() = default;
  // Throws std::bad_alloc when there is not enough memory; Create answers with a status instead.
  explicit Arena(int64_t floats);

  // RESOURCE_EXHAUSTED: out of memory, with the size asked for.
  static absl::StatusOr<Arena> Create(int64_t floats);

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(float)); }
  absl::Span<float> span() { return absl::MakeSpan(data_.get(), static_cast<size_t>(size_)); }
  absl::Span<const float> span() const {
    return absl::MakeConstSpan(data_.get(), static_cast<size_t>(size_));
  }

 private:
  struct Release {
    void operator()(float* data) const;
  };

  std::unique_ptr<float[], Release> data_;
  int64_t size_ = 0;
};

}  // namespace normlab::engine
