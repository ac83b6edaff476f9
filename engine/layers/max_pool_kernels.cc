#include "engine/layers/max_pool_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <type_traits>

#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

NORMLAB_INLINE float ToFloat(float value) {
  return value;
}
NORMLAB_INLINE float ToFloat(uint16_t bf16) {
  return std::bit_cast<float>(uint32_t{bf16} << 16U);
}

// Of one window; from `best` on, in order.
template <typename T>
NORMLAB_INLINE void Challenge(T value, uint8_t place, T& best, uint8_t& winner) {
  const float v = ToFloat(value);
  const bool wins = v > ToFloat(best) || v != v;
  best = wins ? value : best;
  winner = wins ? place : winner;
}

// One row of windows of one block of `block` channels. `kKeep`: winners are written.
template <typename T, bool kKeep>
NORMLAB_INLINE void RowForward(int64_t block,
                               int64_t windows,
                               const T* __restrict top,
                               const T* __restrict bottom,
                               T* __restrict y,
                               uint8_t* __restrict winner) {
  for (int64_t w = 0; w < windows; ++w) {
    const T* __restrict x0 = top + 2 * w * block;
    const T* __restrict x1 = bottom + 2 * w * block;
    T* __restrict y_row = y + w * block;
    uint8_t* __restrict winner_row = kKeep ? winner + w * block : nullptr;
#pragma GCC ivdep
    for (int64_t c = 0; c < block; ++c) {
      T best = x0[c];
      uint8_t place = 0;
      Challenge<T>(x0[block + c], 1, best, place);
      Challenge<T>(x1[c], 2, best, place);
      Challenge<T>(x1[block + c], 3, best, place);
      y_row[c] = best;
      if constexpr (kKeep) {
        winner_row[c] = place;
      }
    }
  }
}

template <typename T>
NORMLAB_INLINE void RowBackward(int64_t block,
                                int64_t windows,
                                const T* __restrict d_y,
                                const uint8_t* __restrict winner,
                                T* __restrict top,
                                T* __restrict bottom) {
  for (int64_t w = 0; w < windows; ++w) {
    const T* __restrict d_y_row = d_y + w * block;
    const uint8_t* __restrict winner_row = winner + w * block;
    T* __restrict x0 = top + 2 * w * block;
    T* __restrict x1 = bottom + 2 * w * block;
#pragma GCC ivdep
    for (int64_t c = 0; c < block; ++c) {
      const T d = d_y_row[c];
      const uint8_t place = winner_row[c];
      x0[c] = place == 0 ? d : T{0};
      x0[block + c] = place == 1 ? d : T{0};
      x1[c] = place == 2 ? d : T{0};
      x1[block + c] = place == 3 ? d : T{0};
    }
  }
}

// The usual block of AVX-512 as a constant.
constexpr int64_t kUsualBlock = 16;

// From so many on, gradients go past the caches: they would not stay there, and lines that are
// overwritten whole need not be read first. Smaller ones are faster to read where they are.
constexpr int64_t kStreamedElements = int64_t{1} << 22;

#define NORMLAB_MAX_POOL_ROWS(T)                                                                \
  NORMLAB_VECTORIZE void Forward(int64_t block, int64_t windows, const T* top, const T* bottom, \
                                 T* y, uint8_t* winner) {                                       \
    if (winner == nullptr) {                                                                    \
      RowForward<T, false>(block, windows, top, bottom, y, nullptr);                            \
    } else if (block == kUsualBlock) {                                                          \
      RowForward<T, true>(kUsualBlock, windows, top, bottom, y, winner);                        \
    } else {                                                                                    \
      RowForward<T, true>(block, windows, top, bottom, y, winner);                              \
    }                                                                                           \
  }                                                                                             \
  NORMLAB_VECTORIZE void Backward(int64_t block, int64_t windows, const T* d_y,                 \
                                  const uint8_t* winner, T* top, T* bottom) {                   \
    if (block == kUsualBlock) {                                                                 \
      RowBackward<T>(kUsualBlock, windows, d_y, winner, top, bottom);                           \
    } else {                                                                                    \
      RowBackward<T>(block, windows, d_y, winner, top, bottom);                                 \
    }                                                                                           \
  }
NORMLAB_MAX_POOL_ROWS(float)
NORMLAB_MAX_POOL_ROWS(uint16_t)
#undef NORMLAB_MAX_POOL_ROWS

// The loops above by AVX-512 instructions, for F32 in blocks of 16 on 64-byte boundaries: compilers
// take twice as many for the bytes.
#if defined(__x86_64__)

// gcc 12 warns of the results that the forms without a mask leave undefined.
constexpr __mmask16 kAllLanes = 0xFFFF;

bool HasAvx512() {
  static const bool has = __builtin_cpu_supports("avx512f") != 0;
  return has;
}

__attribute__((target("avx512f"))) void ForwardAvx512(
    int64_t windows, const float* top, const float* bottom, float* y, uint8_t* winner) {
  for (int64_t w = 0; w < windows; ++w) {
    const float* challengers[] = {top + kUsualBlock, bottom, bottom + kUsualBlock};
    __m512 best = _mm512_load_ps(top);
    __m512i place = _mm512_setzero_si512();
    for (int i = 0; i < 3; ++i) {
      const __m512 value = _mm512_load_ps(challengers[i]);
      const __mmask16 wins = static_cast<__mmask16>(_mm512_cmp_ps_mask(value, best, _CMP_GT_OQ) |
                                                    _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q));
      best = _mm512_mask_mov_ps(best, wins, value);
      place = _mm512_mask_mov_epi32(place, wins, _mm512_set1_epi32(i + 1));
    }
    _mm512_store_ps(y, best);
    _mm_store_si128(reinterpret_cast<__m128i*>(winner),
                    _mm512_maskz_cvtepi32_epi8(kAllLanes, place));
    top += 2 * kUsualBlock;
    bottom += 2 * kUsualBlock;
    y += kUsualBlock;
    winner += kUsualBlock;
  }
}

template <bool kStream>
__attribute__((target("avx512f"))) void BackwardAvx512(
    int64_t windows, const float* d_y, const uint8_t* winner, float* top, float* bottom) {
  for (int64_t w = 0; w < windows; ++w) {
    const __m512 d = _mm512_load_ps(d_y);
    const __m512i place = _mm512_maskz_cvtepu8_epi32(
        kAllLanes, _mm_load_si128(reinterpret_cast<const __m128i*>(winner)));
    float* pixels[] = {top, top + kUsualBlock, bottom, bottom + kUsualBlock};
    for (int i = 0; i < 4; ++i) {
      const __mmask16 is_winner = _mm512_cmpeq_epi32_mask(place, _mm512_set1_epi32(i));
      const __m512 value = _mm512_maskz_mov_ps(is_winner, d);
      if constexpr (kStream) {
        _mm512_stream_ps(pixels[i], value);
      } else {
        _mm512_store_ps(pixels[i], value);
      }
    }
    top += 2 * kUsualBlock;
    bottom += 2 * kUsualBlock;
    d_y += kUsualBlock;
    winner += kUsualBlock;
  }
  if constexpr (kStream) {
    _mm_sfence();
  }
}

#else

bool HasAvx512() {
  return false;
}
void ForwardAvx512(int64_t, const float*, const float*, float*, uint8_t*) {}
template <bool kStream>
void BackwardAvx512(int64_t, const float*, const uint8_t*, float*, float*) {}

#endif

// Buffers of a plan lie on boundaries of kTensorAlignment, and so do their blocks of 16.
template <typename T>
bool UsesAvx512(const MaxPoolShape& shape, const uint8_t* winner) {
  return std::is_same_v<T, float> && shape.x.block == kUsualBlock && winner != nullptr &&
         HasAvx512();
}

// work(offset of the first row of a pair in x, offset of its windows in y, whether it is the last
// pair of its image)
template <typename Work>
void ForEachPair(const MaxPoolShape& shape, const Work& work) {
  const int64_t rows = shape.out_height();
  const int64_t images = shape.x.batch * shape.x.blocks();
  const int64_t x_row = shape.width * shape.x.block;
  const int64_t y_row = shape.out_width() * shape.x.block;
  const bool parallel = images * shape.height * x_row > kSmallTensorElements;
#pragma omp parallel for collapse(2) schedule(static) if (parallel)
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t row = 0; row < rows; ++row) {
      work((image * shape.height + 2 * row) * x_row, (image * rows + row) * y_row, row + 1 == rows);
    }
  }
}

template <typename T>
void ForwardOf(const MaxPoolShape& shape, const T* x, T* y, uint8_t* winner) {
  const int64_t x_row = shape.width * shape.x.block;
  const bool avx512 = UsesAvx512<T>(shape, winner);
  ForEachPair(shape, [&](int64_t in_x, int64_t in_y, bool /*last*/) {
    if constexpr (std::is_same_v<T, float>) {
      if (avx512) {
        ForwardAvx512(shape.out_width(), x + in_x, x + in_x + x_row, y + in_y, winner + in_y);
        return;
      }
    }
    Forward(shape.x.block, shape.out_width(), x + in_x, x + in_x + x_row, y + in_y,
            winner == nullptr ? nullptr : winner + in_y);
  });
}

template <typename T>
void BackwardOf(const MaxPoolShape& shape, const T* d_y, const uint8_t* winner, T* d_x) {
  const int64_t block = shape.x.block;
  const int64_t x_row = shape.width * block;
  const int64_t used = 2 * shape.out_width() * block;
  const bool avx512 = UsesAvx512<T>(shape, winner);
  const bool stream = shape.x.batch * shape.x.blocks() * shape.height * x_row >= kStreamedElements;
  ForEachPair(shape, [&](int64_t in_x, int64_t in_y, bool last) {
    T* top = d_x + in_x;
    T* bottom = top + x_row;
    if constexpr (std::is_same_v<T, float>) {
      if (avx512) {
        (stream ? BackwardAvx512<true> : BackwardAvx512<false>)(shape.out_width(), d_y + in_y,
                                                                winner + in_y, top, bottom);
      }
    }
    if (!avx512) {
      Backward(block, shape.out_width(), d_y + in_y, winner + in_y, top, bottom);
    }
    std::fill(top + used, bottom, T{0});
    std::fill(bottom + used, bottom + x_row, T{0});
    if (last && shape.height % 2 == 1) {
      std::fill(bottom + x_row, bottom + 2 * x_row, T{0});
    }
  });
}

}  // namespace

void MaxPoolForward(const MaxPoolShape& shape, const View& x, const View& y, uint8_t* winner) {
  if (x.layout.type() == DataType::kF32) {
    ForwardOf<float>(shape, x.floats(), y.floats(), winner);
  } else {
    ForwardOf<uint16_t>(shape, x.bf16s(), y.bf16s(), winner);
  }
}

void MaxPoolBackward(const MaxPoolShape& shape,
                     const View& d_y,
                     const uint8_t* winner,
                     const View& d_x) {
  if (d_x.layout.type() == DataType::kF32) {
    BackwardOf<float>(shape, d_y.floats(), winner, d_x.floats());
  } else {
    BackwardOf<uint16_t>(shape, d_y.bf16s(), winner, d_x.bf16s());
  }
}

}  // namespace normlab::engine
