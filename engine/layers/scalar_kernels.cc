#include "engine/layers/scalar_kernels.h"

#include <algorithm>

#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kPart = int64_t{1} << 14;
constexpr int64_t kLanes = 8;

NORMLAB_VECTORIZE void ScalePart(int64_t count, float factor, const float* x, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = factor * x[i];
  }
}

NORMLAB_VECTORIZE void AddPart(int64_t count, float term, const float* x, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = x[i] + term;
  }
}

// The first `width` of every `block` values get the term, the others are copied.
NORMLAB_VECTORIZE void AddToBlocks(
    int64_t pixels, int64_t block, int64_t width, float term, const float* x, float* y) {
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t j = 0; j < width; ++j) {
      y[p * block + j] = x[p * block + j] + term;
    }
    for (int64_t j = width; j < block; ++j) {
      y[p * block + j] = x[p * block + j];
    }
  }
}

NORMLAB_VECTORIZE double SumPart(int64_t count, const float* a) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(a[i + lane]);
    }
  }
  double sum = 0;
  for (; i < count; ++i) {
    sum += static_cast<double>(a[i]);
  }
  for (const double lane : lanes) {
    sum += lane;
  }
  return sum;
}

NORMLAB_VECTORIZE double DotPart(int64_t count, const float* a, const float* b) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  double sum = 0;
  for (; i < count; ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  for (const double lane : lanes) {
    sum += lane;
  }
  return sum;
}

int64_t PartCount(int64_t count) {
  return (count + kPart - 1) / kPart;
}

// Calls visit(part, first, size), shared among threads.
template <typename Visit>
void ForEachPart(int64_t count, const Visit& visit) {
  const int64_t parts = PartCount(count);
#pragma omp parallel for schedule(static) if (count > kSmallTensorElements)
  for (int64_t part = 0; part < parts; ++part) {
    visit(part, part * kPart, std::min(kPart, count - part * kPart));
  }
}

}  // namespace

void ScaleBy(int64_t count, float factor, const float* x, float* y) {
  ForEachPart(count, [=](int64_t /*part*/, int64_t first, int64_t size) {
    ScalePart(size, factor, x + first, y + first);
  });
}

void AddScalar(const ChannelBlocking& blocking, float term, const float* x, float* y) {
  const int64_t blocks = blocking.blocks();
  if (blocking.channels % blocking.block == 0) {
    ForEachPart(blocking.batch * blocking.channels * blocking.area,
                [=](int64_t /*part*/, int64_t first, int64_t size) {
                  AddPart(size, term, x + first, y + first);
                });
    return;
  }
  const int64_t size = blocking.area * blocking.block;
#pragma omp parallel for schedule(static) if (blocking.batch * blocks * size > kSmallTensorElements)
  for (int64_t i = 0; i < blocking.batch * blocks; ++i) {
    const int64_t width = std::min(blocking.block, blocking.channels - i % blocks * blocking.block);
    AddToBlocks(blocking.area, blocking.block, width, term, x + i * size, y + i * size);
  }
}

ExactSum::ExactSum(int64_t count)
    : count_(count), parts_(static_cast<size_t>(PartCount(count)), 0.0) {}

double ExactSum::operator()(const float* a, const float* b) {
  double* parts = parts_.data();
  ForEachPart(count_, [=](int64_t part, int64_t first, int64_t size) {
    parts[part] = b == nullptr ? SumPart(size, a + first) : DotPart(size, a + first, b + first);
  });
  double sum = 0;
  for (const double part : parts_) {
    sum += part;
  }
  return sum;
}

}  // namespace normlab::engine
