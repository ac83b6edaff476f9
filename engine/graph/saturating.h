#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace normlab::engine {

// A non-negative count that stays at the largest value instead of overflowing. A value type.
class Saturating {
 public:
  Saturating(int64_t value = 0) : value_(value) {}  // NOLINT: meant to convert
  int64_t value() const { return value_; }

  friend Saturating operator+(Saturating a, Saturating b) {
    int64_t sum = 0;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? Max() : sum;
  }
  friend Saturating operator*(Saturating a, Saturating b) {
    int64_t product = 0;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? Max() : product;
  }
  Saturating& operator+=(Saturating other) { return *this = *this + other; }

 private:
  static int64_t Max() { return std::numeric_limits<int64_t>::max(); }
  int64_t value_;
};

inline Saturating Smaller(Saturating a, Saturating b) {
  return std::min(a.value(), b.value());
}
inline Saturating Larger(Saturating a, Saturating b) {
  return std::max(a.value(), b.value());
}

}  // namespace normlab::engine
