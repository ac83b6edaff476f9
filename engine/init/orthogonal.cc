#include "engine/init/orthogonal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

// Sums are kept in so many lanes, in a fixed order.
constexpr int64_t kLanes = 8;
// Rows that are taken out of all later ones at a time: each pass over the matrix then does more
// work than it waits for memory.
constexpr int64_t kGroup = 4;
// Below this many values a parallel region costs more than it gains.
constexpr int64_t kParallelValues = int64_t{1} << 14;

NORMLAB_INLINE double SumLanes(const double* lanes) {
  double total = 0;
  for (int64_t j = 0; j < kLanes; ++j) {
    total += lanes[j];
  }
  return total;
}

// `row` loses its parts along the orthonormal rows q[0], ..., q[kGroup - 1].
NORMLAB_VECTORIZE void RemoveGroup(const double* __restrict q,
                                   int64_t count,
                                   double* __restrict row) {
  double lanes[kGroup][kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t k = 0; k < kGroup; ++k) {
      for (int64_t j = 0; j < kLanes; ++j) {
        lanes[k][j] += q[k * count + i + j] * row[i + j];
      }
    }
  }
  double along[kGroup];
  for (int64_t k = 0; k < kGroup; ++k) {
    for (int64_t i = whole; i < count; ++i) {
      lanes[k][i - whole] += q[k * count + i] * row[i];
    }
    along[k] = SumLanes(lanes[k]);
  }
  for (int64_t i = 0; i < count; ++i) {
    row[i] -= along[0] * q[i] + along[1] * q[count + i] + along[2] * q[2 * count + i] +
              along[3] * q[3 * count + i];
  }
}

NORMLAB_VECTORIZE double Dot(const double* a, const double* b, int64_t count) {
  double lanes[kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      lanes[j] += a[i + j] * b[i + j];
    }
  }
  for (int64_t i = whole; i < count; ++i) {
    lanes[i - whole] += a[i] * b[i];
  }
  return SumLanes(lanes);
}

NORMLAB_VECTORIZE void Subtract(double factor,
                                const double* __restrict q,
                                int64_t count,
                                double* __restrict row) {
  for (int64_t i = 0; i < count; ++i) {
    row[i] -= factor * q[i];
  }
}

// Orthonormal rows first, ..., first + size - 1, given that they are orthogonal to all before.
void OrthonormalizeGroup(double* matrix, int64_t first, int64_t size, int64_t columns) {
  for (int64_t r = first; r < first + size; ++r) {
    double* row = matrix + r * columns;
    for (int64_t earlier = first; earlier < r; ++earlier) {
      const double* q = matrix + earlier * columns;
      Subtract(Dot(q, row, columns), q, columns, row);
    }
    const double length = std::sqrt(Dot(row, row, columns));
    for (int64_t i = 0; i < columns; ++i) {
      row[i] /= length;
    }
  }
}

// Modified Gram-Schmidt by groups of rows; rows <= columns. A random normal matrix is conditioned
// well enough (about its size) that double leaves errors far below a float's.
void OrthonormalizeRows(double* matrix, int64_t rows, int64_t columns) {
  for (int64_t first = 0; first < rows; first += kGroup) {
    const int64_t size = std::min(kGroup, rows - first);
    OrthonormalizeGroup(matrix, first, size, columns);
    const int64_t next = first + size;  // beyond the last row after an incomplete group
#pragma omp parallel for schedule(static) if ((rows - next) * columns > kParallelValues)
    for (int64_t r = next; r < rows; ++r) {
      RemoveGroup(matrix + first * columns, columns, matrix + r * columns);
    }
  }
}

}  // namespace

void FillOrthogonal(const common::RandomStream& random,
                    int64_t rows,
                    int64_t columns,
                    double scale,
                    absl::Span<float> values) {
  const bool transposed = rows > columns;
  const int64_t vectors = std::min(rows, columns);
  const int64_t length = std::max(rows, columns);
  std::vector<double> matrix(values.size());
  // Where value (r, c) is in the matrix of orthonormal rows.
  const auto place = [=](int64_t r, int64_t c) {
    return static_cast<size_t>(transposed ? c * length + r : r * length + c);
  };
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      matrix[place(r, c)] = random.Normal(0, static_cast<uint64_t>(r * columns + c));
    }
  }
  OrthonormalizeRows(matrix.data(), vectors, length);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      values[static_cast<size_t>(r * columns + c)] =
          static_cast<float>(scale * matrix[place(r, c)]);
    }
  }
}

}  // namespace normlab::engine
