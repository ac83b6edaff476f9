#include "engine/layers/sum_kernels.h"

#include <algorithm>

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

template <typename Kernel>
void InChunks(int64_t count, const Kernel& kernel) {
#pragma omp parallel for schedule(static) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    kernel(first, std::min(kChunk, count - first));
  }
}

}  // namespace

void Sum(int64_t count, const float* a, const float* b, float* y) {
  InChunks(count,
           [=](int64_t first, int64_t size) { SumChunk(size, a + first, b + first, y + first); });
}

void SumRelu(int64_t count, const float* a, const float* b, float* y) {
  InChunks(count, [=](int64_t first, int64_t size) {
    SumReluChunk(size, a + first, b + first, y + first);
  });
}

void MaskByOutput(int64_t count, const float* y, const float* d_y, float* d_x) {
  InChunks(count, [=](int64_t first, int64_t size) {
    MaskChunk(size, y + first, d_y + first, d_x + first);
  });
}

}  // namespace normlab::engine
