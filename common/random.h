#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normlab::common {

// A counter-based generator (Philox4x32-10, Salmon et al. 2011): every number is a pure function of
// (seed, stream name, step, index), so the order of calls never matters and nothing has to be
// checkpointed but the step. Thread-safe: immutable after construction.
class RandomStream {
 public:
  // Streams with different names are independent; names are constants of the code, such as
  // "shuffle" or "init/fc1.weight".
  RandomStream(uint32_t seed, absl::string_view name);

  // 128 random bits of (step, index).
  std::array<uint32_t, 4> Bits(uint64_t step, uint64_t index) const;
  // Bits of many indices at once, about four times faster: words[k][i] becomes Bits(step,
  // indices[i])[k]. Each of the four arrays has room for indices.size() words; none overlap.
  void FillBits(uint64_t step,
                absl::Span<const uint64_t> indices,
                const std::array<uint32_t*, 4>& words) const;
  // Uniform in [0, 1) with 53 bits.
  double Uniform(uint64_t step, uint64_t index) const;
  // Standard normal (Box-Muller on the 128 bits).
  double Normal(uint64_t step, uint64_t index) const;
  // Uniform in [0, bound), without modulo bias beyond 2^-32 (64-bit multiply-shift). bound > 0.
  uint64_t Below(uint64_t bound, uint64_t step, uint64_t index) const;

 private:
  std::array<uint32_t, 2> key_;
};

}  // namespace normlab::common
