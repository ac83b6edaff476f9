#include "engine/layers/elementwise.h"

#include <algorithm>
#include <cstring>

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

// Klambauer et al. 2017.
constexpr float kSeluAlpha = 1.6732632423543772F;
constexpr float kSeluScale = 1.0507009873554805F;

NORMLAB_VECTORIZE void LeakyForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = x[i] < 0.0F ? kLeakySlope * x[i] : x[i];
  }
}

NORMLAB_VECTORIZE void LeakyBackward(int64_t count, const float* y, const float* d_y, float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = y[i] > 0.0F ? d_y[i] : kLeakySlope * d_y[i];
  }
}

// scale (x, or alpha (e^x - 1) below 0): ELU and SELU.
NORMLAB_VECTORIZE void EluForward(
    float scale, float alpha, int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float below = alpha * VectorExpm1(x[i]);
    y[i] = scale * (x[i] < 0.0F ? below : x[i]);
  }
}

// Below 0 the slope is scale alpha e^x = y + scale alpha.
NORMLAB_VECTORIZE void EluBackward(
    float scale, float alpha, int64_t count, const float* y, const float* d_y, float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    d_x[i] = d_y[i] * (y[i] > 0.0F ? scale : y[i] + scale * alpha);
  }
}

NORMLAB_VECTORIZE void SiluForward(int64_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    y[i] = x[i] * VectorSigmoid(x[i]);
  }
}

NORMLAB_VECTORIZE void SiluBackward(int64_t count, const float* x, const float* d_y, float* d_x) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const float sigmoid = VectorSigmoid(x[i]);
    d_x[i] = d_y[i] * (sigmoid * (1.0F + x[i] * (1.0F - sigmoid)));
  }
}

template <typename Loop>
void InChunks(int64_t count, const Loop& loop) {
  constexpr int64_t kChunk = int64_t{1} << 14;
#pragma omp parallel for schedule(static) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    loop(first, std::min(kChunk, count - first));
  }
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
    case ActivationKind::kLeakyRelu:
      return LeakyForward(count, x, y);
    case ActivationKind::kElu:
      return EluForward(1.0F, 1.0F, count, x, y);
    case ActivationKind::kSelu:
      return InChunks(count, [=](int64_t first, int64_t size) {
        EluForward(kSeluScale, kSeluAlpha, size, x + first, y + first);
      });
    case ActivationKind::kSilu:
      return SiluForward(count, x, y);
    case ActivationKind::kGelu:
      break;
  }
}

bool BackwardNeedsInput(ActivationKind kind) {
  return kind == ActivationKind::kGelu || kind == ActivationKind::kSilu;
}

void ActivationBackward(
    ActivationKind kind, int64_t count, const float* data, const float* d_y, float* d_x) {
  switch (kind) {
    case ActivationKind::kIdentity:
      return Copy(count, d_y, d_x);
    case ActivationKind::kRelu:
      return ReluBackward(count, data, d_y, d_x);
    case ActivationKind::kSigmoid:
      return SigmoidBackward(count, data, d_y, d_x);
    case ActivationKind::kTanh:
      return TanhBackward(count, data, d_y, d_x);
    case ActivationKind::kLeakyRelu:
      return LeakyBackward(count, data, d_y, d_x);
    case ActivationKind::kElu:
      return EluBackward(1.0F, 1.0F, count, data, d_y, d_x);
    case ActivationKind::kSelu:
      return InChunks(count, [=](int64_t first, int64_t size) {
        EluBackward(kSeluScale, kSeluAlpha, size, data + first, d_y + first, d_x + first);
      });
    case ActivationKind::kSilu:
      return SiluBackward(count, data, d_y, d_x);
    case ActivationKind::kGelu:
      break;
  }
}

void Exponentials(int64_t count, const float* x, float* y) {
  ExpForward(count, x, y);
}

}  // namespace normlab::engine
