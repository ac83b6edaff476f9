#include "common/random.h"

#include <cmath>
#include <numbers>

namespace normlab::common {
namespace {

// FNV-1a, 64 bits: only has to give different names different keys.
uint64_t HashName(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return hash;
}

// SplitMix64's finalizer: spreads (seed, name) over all key bits.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

double ToUnit(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace

RandomStream::RandomStream(uint32_t seed, absl::string_view name) {
  const uint64_t key = Mix(Mix(seed) ^ HashName(name));
  key_ = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
}

std::array<uint32_t, 4> RandomStream::Bits(uint64_t step, uint64_t index) const {
  std::array<uint32_t, 4> x = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                               static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
  std::array<uint32_t, 2> key = key_;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53U} * x[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57U} * x[2];
    x = {static_cast<uint32_t>(product1 >> 32) ^ x[1] ^ key[0], static_cast<uint32_t>(product1),
         static_cast<uint32_t>(product0 >> 32) ^ x[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return x;
}

double RandomStream::Uniform(uint64_t step, uint64_t index) const {
  const auto bits = Bits(step, index);
  return ToUnit(bits[0], bits[1]);
}

double RandomStream::Normal(uint64_t step, uint64_t index) const {
  const auto bits = Bits(step, index);
  const double radius = std::sqrt(-2.0 * std::log1p(-ToUnit(bits[0], bits[1])));
  return radius * std::cos(2.0 * std::numbers::pi * ToUnit(bits[2], bits[3]));
}

uint64_t RandomStream::Below(uint64_t bound, uint64_t step, uint64_t index) const {
  const auto bits = Bits(step, index);
  const uint64_t wide = static_cast<uint64_t>(bits[0]) << 32 | bits[1];
  return static_cast<uint64_t>((static_cast<unsigned __int128>(wide) * bound) >> 64);
}

}  // namespace normlab::common
