#include "engine/layers/global_average_pool.h"

#include <algorithm>

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"
#include "engine/layers/own_loops.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:mean";
constexpr int64_t kLanes = 16;

// The sum of `count` neighbours, in as many parts as a register has lanes.
NORMLAB_VECTORIZE float SumOf(int64_t count, const float* x) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += x[i + lane];
    }
  }
  float sum = 0;
  for (; i < count; ++i) {
    sum += x[i];
  }
  for (const float lane : lanes) {
    sum += lane;
  }
  return sum;
}

// mean[j] = factor * sum over pixels of x[pixel * block + j], j < width.
NORMLAB_VECTORIZE void MeanOfPixels(
    int64_t area, int64_t block, int64_t width, float factor, const float* x, float* mean) {
  for (int64_t j = 0; j < width; ++j) {
    mean[j] = 0;
  }
  for (int64_t p = 0; p < area; ++p) {
    for (int64_t j = 0; j < width; ++j) {
      mean[j] += x[p * block + j];
    }
  }
  for (int64_t j = 0; j < width; ++j) {
    mean[j] *= factor;
  }
}

// Every pixel's first `width` channels get factor * d_y, the rest of the block 0.
NORMLAB_VECTORIZE void Spread(
    int64_t area, int64_t block, int64_t width, float factor, const float* d_y, float* d_x) {
  for (int64_t p = 0; p < area; ++p) {
    for (int64_t j = 0; j < width; ++j) {
      d_x[p * block + j] = factor * d_y[j];
    }
    for (int64_t j = width; j < block; ++j) {
      d_x[p * block + j] = 0;
    }
  }
}

// Calls visit(offset into the image tensor, offset into [N,C], channels) for every block of channels
// of every image, shared among threads.
template <typename Visit>
void ForEachBlock(const ChannelBlocking& blocking, const Visit& visit) {
  const int64_t blocks = blocking.blocks();
  const int64_t values = blocking.batch * blocking.channels * blocking.area;
#pragma omp parallel for schedule(static) if (values > kSmallTensorElements)
  for (int64_t i = 0; i < blocking.batch * blocks; ++i) {
    const int64_t first = i % blocks * blocking.block;
    visit(i * blocking.area * blocking.block, i / blocks * blocking.channels + first,
          std::min(blocking.block, blocking.channels - first));
  }
}

}  // namespace

absl::StatusOr<View> GlobalAveragePoolLayer::PlanForward(Planner& planner,
                                                         absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(x_, PlanForOwnLoops(planner, name(), inputs[0], forward_));
  blocking_ = *x_.layout.channel_blocking();
  y_ = planner.Reserve(Layout::RowMajor({blocking_.batch, blocking_.channels}));
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

absl::StatusOr<View> GlobalAveragePoolLayer::PlanBackward(Planner& planner,
                                                          const View& d_y,
                                                          bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward_data", kOwnLoop);
  return d_x_;
}

void GlobalAveragePoolLayer::Forward() {
  RunAll(forward_);
  const float factor = 1.0F / static_cast<float>(blocking_.area);
  const float* x = x_.floats();
  float* y = y_.floats();
  ForEachBlock(blocking_, [&](int64_t image, int64_t row, int64_t width) {
    if (blocking_.block == 1) {
      y[row] = factor * SumOf(blocking_.area, x + image);
    } else {
      MeanOfPixels(blocking_.area, blocking_.block, width, factor, x + image, y + row);
    }
  });
}

void GlobalAveragePoolLayer::Backward() {
  RunAll(backward_);
  const float factor = 1.0F / static_cast<float>(blocking_.area);
  const float* d_y = d_y_.floats();
  float* d_x = d_x_.floats();
  ForEachBlock(blocking_, [&](int64_t image, int64_t row, int64_t width) {
    Spread(blocking_.area, blocking_.block, width, factor, d_y + row, d_x + image);
  });
}

}  // namespace normlab::engine
