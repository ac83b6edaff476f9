#include "engine/layers/sum_kernels.h"

#include <algorithm>
#include <cstdint>

#include "engine/dnnl/data_type.h"
#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kChunk = int64_t{1} << 14;

NORMLAB_VECTORIZE void SumChunk(int64_t count, const float* a, const float* b, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = a[i] + b[i];
  }
}

NORMLAB_VECTORIZE void SumReluChunk(int64_t count, const float* a, const float* b, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float sum = a[i] + b[i];
    y[i] = sum < 0.0F ? 0.0F : sum;
  }
}

NORMLAB_VECTORIZE void MaskChunk(int64_t count, const float* y, const float* d_y, float* d_x) {
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = y[i] <= 0.0F ? 0.0F : d_y[i];
  }
}

NORMLAB_VECTORIZE void SumMaskChunk(
    int64_t count, const float* y, const float* a, const float* b, float* d_x) {
  for (int64_t i = 0; i < count; ++i) {
    const float sum = a[i] + b[i];
    d_x[i] = y[i] <= 0.0F ? 0.0F : sum;
  }
}

// "ivdep": the arrays are the same or do not overlap.

NORMLAB_VECTORIZE void SumChunk(int64_t count, const uint16_t* a, const uint16_t* b, uint16_t* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = ToBf16(FromBf16(a[i]) + FromBf16(b[i]));
  }
}

NORMLAB_VECTORIZE void SumReluChunk(int64_t count,
                                    const uint16_t* a,
                                    const uint16_t* b,
                                    uint16_t* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float sum = FromBf16(a[i]) + FromBf16(b[i]);
    y[i] = ToBf16(sum < 0.0F ? 0.0F : sum);
  }
}

NORMLAB_VECTORIZE void MaskChunk(int64_t count,
                                 const uint16_t* y,
                                 const uint16_t* d_y,
                                 uint16_t* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = FromBf16(y[i]) <= 0.0F ? uint16_t{0} : d_y[i];
  }
}

NORMLAB_VECTORIZE void SumMaskChunk(
    int64_t count, const uint16_t* y, const uint16_t* a, const uint16_t* b, uint16_t* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t sum = ToBf16(FromBf16(a[i]) + FromBf16(b[i]));
    d_x[i] = FromBf16(y[i]) <= 0.0F ? uint16_t{0} : sum;
  }
}

template <typename Kernel>
void InChunks(int64_t count, const Kernel& kernel) {
#pragma omp parallel for schedule(static) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    kernel(first, std::min(kChunk, count - first));
  }
}

// Calls kernel(size, out, in...) for pieces of the views, with pointers of their type.
template <typename Kernel, typename... Views>
void OverElements(const Kernel& kernel, const View& out, const Views&... in) {
  const int64_t count = out.layout.element_count();
  if (out.layout.type() == DataType::kBf16) {
    InChunks(count, [&](int64_t first, int64_t size) {
      kernel(size, out.bf16s() + first, in.bf16s() + first...);
    });
    return;
  }
  InChunks(count, [&](int64_t first, int64_t size) {
    kernel(size, out.floats() + first, in.floats() + first...);
  });
}

}  // namespace

void Sum(const View& a, const View& b, const View& y) {
  OverElements([](int64_t size, auto* out, const auto* in_a,
                  const auto* in_b) { SumChunk(size, in_a, in_b, out); },
               y, a, b);
}

void SumRelu(const View& a, const View& b, const View& y) {
  OverElements([](int64_t size, auto* out, const auto* in_a,
                  const auto* in_b) { SumReluChunk(size, in_a, in_b, out); },
               y, a, b);
}

void MaskByOutput(const View& y, const View& d_y, const View& d_x) {
  OverElements([](int64_t size, auto* out, const auto* in_y,
                  const auto* in_d) { MaskChunk(size, in_y, in_d, out); },
               d_x, y, d_y);
}

void SumMaskedByOutput(const View& y, const View& a, const View& b, const View& d_x) {
  OverElements([](int64_t size, auto* out, const auto* in_y, const auto* in_a,
                  const auto* in_b) { SumMaskChunk(size, in_y, in_a, in_b, out); },
               d_x, y, a, b);
}

}  // namespace normlab::engine
