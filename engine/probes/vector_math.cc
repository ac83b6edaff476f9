#include "engine/probes/vector_math.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kPiece = 4096;
// Fewer are not worth waking threads.
constexpr int64_t kParallel = 1 << 16;
constexpr int kLanes = 8;

// Sums term(i) for i in [first, first + count) in lanes, always in the same order.
template <typename Term>
NORMLAB_INLINE double SumPiece(int64_t first, int64_t count, const Term& term) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += term(first + i + lane);
    }
  }
  double sum = 0;
  for (const double lane : lanes) {
    sum += lane;
  }
  for (; i < count; ++i) {
    sum += term(first + i);
  }
  return sum;
}

template <typename Term>
double Sum(int64_t count, const Term& term) {
  if (count < kParallel) {
    double sum = 0;
    for (int64_t first = 0; first < count; first += kPiece) {
      sum += SumPiece(first, std::min(kPiece, count - first), term);
    }
    return sum;
  }
  std::vector<double> sums(static_cast<size_t>((count + kPiece - 1) / kPiece));
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < static_cast<int64_t>(sums.size()); ++piece) {
    const int64_t first = piece * kPiece;
    sums[static_cast<size_t>(piece)] = SumPiece(first, std::min(kPiece, count - first), term);
  }
  double sum = 0;
  for (const double piece : sums) {
    sum += piece;
  }
  return sum;
}

}  // namespace

double Dot(absl::Span<const float> a, absl::Span<const float> b) {
  const float* const x = a.data();
  const float* const y = b.data();
  return Sum(static_cast<int64_t>(a.size()),
             [x, y](int64_t i) { return static_cast<double>(x[i]) * y[i]; });
}

double SquaredNorm(absl::Span<const float> a) {
  return Dot(a, a);
}

double SquaredDistance(absl::Span<const float> a, absl::Span<const float> b) {
  const float* const x = a.data();
  const float* const y = b.data();
  return Sum(static_cast<int64_t>(a.size()), [x, y](int64_t i) {
    const double difference = static_cast<double>(x[i]) - y[i];
    return difference * difference;
  });
}

void AddScaled(absl::Span<const float> a,
               double factor,
               absl::Span<const float> b,
               absl::Span<float> to) {
  const float* const x = a.data();
  const float* const y = b.data();
  float* const z = to.data();
  const auto count = static_cast<int64_t>(a.size());
#pragma omp parallel for schedule(static) if (count >= kParallel)
  for (int64_t i = 0; i < count; ++i) {
    z[i] = static_cast<float>(x[i] + factor * y[i]);
  }
}

}  // namespace normlab::engine
