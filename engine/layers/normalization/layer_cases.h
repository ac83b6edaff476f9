#pragma once

#include <vector>

#include "gtest/gtest.h"

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/reference_normalizers.h"

// The inputs that tests of normalizers as layers sweep.
namespace normlab::engine::testing {

// d_x is what is left of d_y after its mean and its projection on xh are taken away.
inline constexpr double kGradientTolerance = 3e-5;
inline constexpr double kLayerEpsilon = 1e-3;
inline constexpr double kLayerRate = 0.3;
inline const BatchNormNode kLayerBatchNorm = {.epsilon = kLayerEpsilon,
                                              .running_update_rate = kLayerRate};

struct LayerShape {
  Dims in;
  int64_t batch;
};
// Odd areas, channels below, at and above a block of 16 and not multiples of it; narrow and wide
// dense features.
inline const LayerShape kLayerShapes[] = {{{18, 5, 3}, 4}, {{6, 7, 7}, 2}, {{34, 3, 5}, 6},
                                          {{32, 4, 4}, 2}, {{12}, 6},      {{102}, 4},
                                          {{258}, 8},      {{272}, 6},     {{18, 9, 8}, 2}};

inline reference::NormShape ShapeOf(const LayerShape& s) {
  return {s.batch, s.in[0], ElementCount(s.in) / s.in[0]};
}

// Plain, channels last, and what a convolution would like best here.
inline std::vector<Layout> LayoutsOf(const LayerShape& s) {
  Dims dims = {s.batch};
  dims.insert(dims.end(), s.in.begin(), s.in.end());
  std::vector<Layout> layouts = {Layout::RowMajor(dims)};
  if (s.in.size() == 3) {
    layouts.push_back(Layout::ChannelsLast(dims));
    const auto runtime = Runtime::Create();
    const auto convolution =
        MakeConvolutionForward(*runtime, {}, Layout::Any({s.batch, 32, s.in[1], s.in[2]}),
                               Layout::Any({s.in[0], 32, 1, 1}), Layout::Any(dims), false, true);
    EXPECT_TRUE(convolution.ok()) << convolution.status();
    layouts.push_back(convolution->layout(Arg::kDestination));
  }
  return layouts;
}

}  // namespace normlab::engine::testing
