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

template <typename Kernel>
void InChunks(int64_t count, const Kernel& kernel) {
#pragma omp parallel for schedule(static) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    kernel(first, std::min(kChunk, count - first));
  }
}

// Calls kernel(size, a, b, y) for pieces of the three, with pointers of their type.
template <typename Kernel>
void OverElements(const View& a, const View& b, const View& y, const Kernel& kernel) {
  const int64_t count = y.layout.element_count();
  if (y.layout.type() == DataType::kBf16) {
    const uint16_t* in_a = a.bf16s();
    const uint16_t* in_b = b.bf16s();
    uint16_t* out = y.bf16s();
    InChunks(count, [=](int64_t first, int64_t size) {
      kernel(size, in_a + first, in_b + first, out + first);
    });
    return;
  }
  const float* in_a = a.floats();
  const float* in_b = b.floats();
  float* out = y.floats();
  InChunks(count, [=](int64_t first, int64_t size) {
    kernel(size, in_a + first, in_b + first, out + first);
  });
}

}  // namespace

void Sum(const View& a, const View& b, const View& y) {
  OverElements(a, b, y, [](int64_t size, const auto* in_a, const auto* in_b, auto* out) {
    SumChunk(size, in_a, in_b, out);
  });
}

void SumRelu(const View& a, const View& b, const View& y) {
  OverElements(a, b, y, [](int64_t size, const auto* in_a, const auto* in_b, auto* out) {
    SumReluChunk(size, in_a, in_b, out);
  });
}

void MaskByOutput(const View& y, const View& d_y, const View& d_x) {
  OverElements(y, d_y, d_x, [](int64_t size, const auto* in_y, const auto* in_d, auto* out) {
    MaskChunk(size, in_y, in_d, out);
  });
}

}  // namespace normlab::engine
