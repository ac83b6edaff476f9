#pragma once

#include <cstdint>

// The numbers behind ConvolutionPolicy::kAuto (engine/layers/convolution_choice.cc has the
// measurements that they come from), which the estimate of a job's memory needs too.
namespace normlab::engine {

// oneDNN's Winograd works on whole blocks of channels: with fewer, it computes and stores many times
// what is needed. The gradient of the weights is faster from one whole block on.
inline constexpr int64_t kWinogradBlock = 16;
// Everything else from so many channels on, in and out.
inline constexpr int64_t kWinogradChannels = 32;
// F(4x4, 3x3): a tile has 4x4 outputs.
inline constexpr int64_t kWinogradTile = 4;

}  // namespace normlab::engine
