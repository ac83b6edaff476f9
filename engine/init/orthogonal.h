#pragma once

#include <cstdint>

#include "absl/types/span.h"

#include "common/random.h"

namespace normlab::engine {

// Fills the matrix `values` [rows, columns] with `scale` times a matrix whose rows (or columns,
// where those are fewer) are orthonormal, uniformly distributed among all such matrices (Saxe et
// al. 2014): a matrix of standard normal numbers, value i being number i of `random`, whose rows
// are orthogonalized one after the other, each keeping its direction (Mezzadri 2007).
//
// In double: 2*rows*columns*min(rows, columns) multiply-adds and 8 bytes a value. The same bits for
// every number of OpenMP threads. Throws std::bad_alloc without memory for that. Thread-safe.
void FillOrthogonal(const common::RandomStream& random,
                    int64_t rows,
                    int64_t columns,
                    double scale,
                    absl::Span<float> values);

}  // namespace normlab::engine
