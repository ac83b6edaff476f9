// Random bits in bulk: the generator of random.cc, several indices at a time in vector registers.
// Written with intrinsics because compilers do not see that the products are of 32-bit numbers, and
// multiply 64-bit ones, at three times the cost.
#include "common/random.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace normlab::common {
namespace {

#if defined(__x86_64__)

constexpr long long kFactor0 = 0xD2511F53;
constexpr long long kFactor1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

// The state of four indices is in the lower halves of 64-bit lanes; what collects in the upper
// halves is never looked at, because the product takes lower halves only.
struct Four {
  __m256i x[4];
};

struct RoundKeys {
  __m256i key[kRounds][2];
};

__attribute__((target("avx2"), always_inline)) inline Four Start(const uint64_t* indices,
                                                                 uint64_t step) {
  Four s;
  s.x[0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(indices));
  s.x[1] = _mm256_srli_epi64(s.x[0], 32);
  s.x[2] = _mm256_set1_epi64x(static_cast<long long>(step));
  s.x[3] = _mm256_srli_epi64(s.x[2], 32);
  return s;
}

__attribute__((target("avx2"), always_inline)) inline void Round(const __m256i key[2], Four& s) {
  const __m256i product0 = _mm256_mul_epu32(_mm256_set1_epi64x(kFactor0), s.x[0]);
  const __m256i product1 = _mm256_mul_epu32(_mm256_set1_epi64x(kFactor1), s.x[2]);
  s.x[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), key[0]), s.x[1]);
  s.x[1] = product1;
  s.x[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), key[1]), s.x[3]);
  s.x[3] = product0;
}

// Fills as many as fit into whole vectors, eight at a time so that two chains of products overlap;
// returns their number.
__attribute__((target("avx2"))) int64_t FillVectors(const std::array<uint32_t, 2>& key,
                                                    uint64_t step,
                                                    absl::Span<const uint64_t> indices,
                                                    const std::array<uint32_t*, 4>& words) {
  RoundKeys keys;
  for (uint32_t round = 0; round < kRounds; ++round) {
    keys.key[round][0] = _mm256_set1_epi64x(key[0] + round * kWeyl0);
    keys.key[round][1] = _mm256_set1_epi64x(key[1] + round * kWeyl1);
  }
  const auto count = static_cast<int64_t>(indices.size());
  int64_t done = 0;
  for (; done + 8 <= count; done += 8) {
    Four a = Start(indices.data() + done, step);
    Four b = Start(indices.data() + done + 4, step);
#pragma GCC unroll 10
    for (int round = 0; round < kRounds; ++round) {
      Round(keys.key[round], a);
      Round(keys.key[round], b);
    }
    for (size_t k = 0; k < 4; ++k) {
      // The lower halves of both, first within each 128 bits, then in order.
      const __m256 mixed =
          _mm256_shuffle_ps(_mm256_castsi256_ps(a.x[k]), _mm256_castsi256_ps(b.x[k]), 0x88);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(words[k] + done),
                          _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), 0xD8));
    }
  }
  return done;
}

// The same with eight indices a register. (The masked forms, of all lanes, because GCC 12 warns of
// uninitialized values in the others.)
__attribute__((target("avx512f"))) int64_t FillWideVectors(const std::array<uint32_t, 2>& key,
                                                           uint64_t step,
                                                           absl::Span<const uint64_t> indices,
                                                           const std::array<uint32_t*, 4>& words) {
  constexpr __mmask8 kAll = 0xFF;
  const __m512i factor0 = _mm512_set1_epi64(kFactor0);
  const __m512i factor1 = _mm512_set1_epi64(kFactor1);
  __m512i keys[kRounds][2];
  for (uint32_t round = 0; round < kRounds; ++round) {
    keys[round][0] = _mm512_set1_epi64(key[0] + round * kWeyl0);
    keys[round][1] = _mm512_set1_epi64(key[1] + round * kWeyl1);
  }
  const auto count = static_cast<int64_t>(indices.size());
  int64_t done = 0;
  for (; done + 8 <= count; done += 8) {
    __m512i x0 = _mm512_loadu_si512(indices.data() + done);
    __m512i x1 = _mm512_maskz_srli_epi64(kAll, x0, 32);
    __m512i x2 = _mm512_set1_epi64(static_cast<long long>(step));
    __m512i x3 = _mm512_maskz_srli_epi64(kAll, x2, 32);
#pragma GCC unroll 10
    for (int round = 0; round < kRounds; ++round) {
      const __m512i product0 = _mm512_maskz_mul_epu32(kAll, factor0, x0);
      const __m512i product1 = _mm512_maskz_mul_epu32(kAll, factor1, x2);
      x0 = _mm512_maskz_srli_epi64(kAll, product1, 32) ^ keys[round][0] ^ x1;
      x1 = product1;
      x2 = _mm512_maskz_srli_epi64(kAll, product0, 32) ^ keys[round][1] ^ x3;
      x3 = product0;
    }
    _mm512_mask_cvtepi64_storeu_epi32(words[0] + done, kAll, x0);
    _mm512_mask_cvtepi64_storeu_epi32(words[1] + done, kAll, x1);
    _mm512_mask_cvtepi64_storeu_epi32(words[2] + done, kAll, x2);
    _mm512_mask_cvtepi64_storeu_epi32(words[3] + done, kAll, x3);
  }
  return done;
}

#endif

}  // namespace

void RandomStream::FillBits(uint64_t step,
                            absl::Span<const uint64_t> indices,
                            const std::array<uint32_t*, 4>& words) const {
  int64_t done = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") != 0) {
    done = FillWideVectors(key_, step, indices, words);
  } else if (__builtin_cpu_supports("avx2") != 0) {
    done = FillVectors(key_, step, indices, words);
  }
#endif
  for (auto i = static_cast<size_t>(done); i < indices.size(); ++i) {
    const std::array<uint32_t, 4> bits = Bits(step, indices[i]);
    for (size_t k = 0; k < bits.size(); ++k) {
      words[k][i] = bits[k];
    }
  }
}

}  // namespace normlab::common
