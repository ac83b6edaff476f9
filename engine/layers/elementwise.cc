#include "engine/layers/elementwise.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "engine/layers/vector_math.h"
#include "engine/tensor/vectorize.h"

// "ivdep": input and output are the same array or do not overlap, so iterations are independent.

namespace normlab::engine {
namespace {

NORMLAB_VECTORIZE void ReluForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = x[i] <= 0.0F ? 0.0F : x[i];  // in this form NaN stays NaN
  }
}

NORMLAB_VECTORIZE void SigmoidForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = VectorSigmoid(x[i]);
  }
}

NORMLAB_VECTORIZE void TanhForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = VectorTanh(x[i]);
  }
}

NORMLAB_VECTORIZE void ReluBackward(int64_t count, const float* y, const float* d_y, float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = y[i] > 0.0F ? d_y[i] : 0.0F;
  }
}

NORMLAB_VECTORIZE void SigmoidBackward(int64_t count,
                                       const float* y,
                                       const float* d_y,
                                       float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = d_y[i] * (y[i] * (1.0F - y[i]));
  }
}

NORMLAB_VECTORIZE void TanhBackward(int64_t count, const float* y, const float* d_y, float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = d_y[i] * (1.0F - y[i] * y[i]);
  }
}

NORMLAB_VECTORIZE void ExpForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = VectorExp(x[i]);
  }
}

// Bits of a float without its sign: those of infinity, and above them every NaN.
constexpr uint32_t kMagnitude = 0x7FFFFFFF;
constexpr uint32_t kInfinity = 0x7F800000;

NORMLAB_VECTORIZE uint32_t LargestMagnitude(int64_t count, const float* x) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & kMagnitude);
  }
  return largest;
}

void Copy(int64_t count, const float* from, float* to) {
  if (from != to) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

}  // namespace

void ActivationForward(ActivationKind kind, int64_t count, const float* x, float* y) {
  switch (kind) {
    case ActivationKind::kIdentity:
      return Copy(count, x, y);
    case ActivationKind::kRelu:
      return ReluForward(count, x, y);
    case ActivationKind::kSigmoid:
      return SigmoidForward(count, x, y);
    case ActivationKind::kTanh:
      return TanhForward(count, x, y);
  }
}

void ActivationBackward(
    ActivationKind kind, int64_t count, const float* y, const float* d_y, float* d_x) {
  switch (kind) {
    case ActivationKind::kIdentity:
      return Copy(count, d_y, d_x);
    case ActivationKind::kRelu:
      return ReluBackward(count, y, d_y, d_x);
    case ActivationKind::kSigmoid:
      return SigmoidBackward(count, y, d_y, d_x);
    case ActivationKind::kTanh:
      return TanhBackward(count, y, d_y, d_x);
  }
}

void Exponentials(int64_t count, const float* x, float* y) {
  ExpForward(count, x, y);
}

bool HasNan(int64_t count, const float* x) {
  constexpr int64_t kChunk = int64_t{1} << 14;
  uint32_t largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    largest = std::max(largest, LargestMagnitude(std::min(kChunk, count - first), x + first));
  }
  return largest > kInfinity;
}

void KeepNan(int64_t count, const float* x, float* y) {
  if (HasNan(count, x)) {
    y[0] = std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace normlab::engine
