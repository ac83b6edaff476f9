#pragma once

#include <cstddef>
#include <cstdint>

namespace normlab::engine {

// Cuts tables out of memory that somebody lends for one pass. With null memory it only counts.
class ScratchCutter {
 public:
  explicit ScratchCutter(std::byte* memory) : memory_(memory) {}

  template <typename Number>
  Number* Cut(int64_t count) {
    const int64_t offset = bytes_;
    // Cache lines of their own, so that threads do not share any at the borders of tables.
    constexpr int64_t kAlignment = 64;
    bytes_ +=
        (count * static_cast<int64_t>(sizeof(Number)) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<Number*>(memory_ + offset);
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  int64_t bytes_ = 0;
};

}  // namespace normlab::engine
