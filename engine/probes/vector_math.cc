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

// Sums term(i) for i in [0, count) in lanes, always in the same order.
template <typename Term>
NORMLAB_INLINE double SumPiece(int64_t count, const Term& term) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += term(i + lane);
    }
  }
  double sum = 0;
  for (const double lane : lanes) {
    sum += lane;
  }
  for (; i < count; ++i) {
    sum += term(i);
  }
  return sum;
}

NORMLAB_VECTORIZE double DotPiece(const float* x, const float* y, int64_t count) {
  return SumPiece(count, [x, y](int64_t i) { return static_cast<double>(x[i]) * y[i]; });
}

NORMLAB_VECTORIZE double DistancePiece(const float* x, const float* y, int64_t count) {
  return SumPiece(count, [x, y](int64_t i) {
    const double difference = static_cast<double>(x[i]) - y[i];
    return difference * difference;
  });
}

NORMLAB_VECTORIZE void AddScaledPiece(
    const float* x, double factor, const float* y, float* z, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    z[i] = static_cast<float>(x[i] + factor * y[i]);
  }
}

using PiecePass = double (*)(const float*, const float*, int64_t);

double Sum(absl::Span<const float> a, absl::Span<const float> b, PiecePass of_piece) {
  const float* const x = a.data();
  const float* const y = b.data();
  const auto count = static_cast<int64_t>(a.size());
  if (count < kParallel) {
    double sum = 0;
    for (int64_t first = 0; first < count; first += kPiece) {
      sum += of_piece(x + first, y + first, std::min(kPiece, count - first));
    }
    return sum;
  }
  std::vector<double> sums(static_cast<size_t>((count + kPiece - 1) / kPiece));
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < static_cast<int64_t>(sums.size()); ++piece) {
    const int64_t first = piece * kPiece;
    sums[static_cast<size_t>(piece)] =
        of_piece(x + first, y + first, std::min(kPiece, count - first));
  }
  double sum = 0;
  for (const double piece : sums) {
    sum += piece;
  }
  return sum;
}

}  // namespace

double Dot(absl::Span<const float> a, absl::Span<const float> b) {
  return Sum(a, b, DotPiece);
}

double SquaredNorm(absl::Span<const float> a) {
  return Dot(a, a);
}

double SquaredDistance(absl::Span<const float> a, absl::Span<const float> b) {
  return Sum(a, b, DistancePiece);
}

void AddScaled(absl::Span<const float> a,
               double factor,
               absl::Span<const float> b,
               absl::Span<float> to) {
  const auto count = static_cast<int64_t>(a.size());
#pragma omp parallel for schedule(static) if (count >= kParallel)
  for (int64_t first = 0; first < count; first += kPiece) {
    AddScaledPiece(a.data() + first, factor, b.data() + first, to.data() + first,
                   std::min(kPiece, count - first));
  }
}

}  // namespace normlab::engine
