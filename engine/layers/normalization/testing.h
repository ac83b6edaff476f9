#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/dnnl/layout.h"
#include "engine/layers/reference.h"

// What the tests of normalizer kernels share.
namespace normlab::engine::testing {

// The layouts of a tensor [batch, channels, area] to sweep: plain, blocks of 8 and 16 channels,
// channels last (dense, when the area is 1).
std::vector<ChannelBlocking> LayoutsOf(const reference::NormShape& shape);
std::string Describe(const ChannelBlocking& layout);

// Floats in memory, padding included.
int64_t FloatsOf(const ChannelBlocking& layout);

// Scratch memory of so many bytes, 64-byte aligned, filled with NaN: nobody may count on zeros.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  std::byte* data();

 private:
  std::vector<double> memory_;
};

// Row-major numbers as floats in `layout`, padding NaN: nobody may read it.
std::vector<float> Pack(const ChannelBlocking& layout, const reference::Tensor& x);
// And back; a test failure unless the padding is 0.
reference::Tensor Unpack(const ChannelBlocking& layout, const std::vector<float>& x);

// Inputs with other means and scales in every channel and example, so that a statistic over the
// wrong axis fails; exact in float. Standard deviations around 1, means around `offset`.
reference::Tensor Inputs(const reference::NormShape& shape, double offset = 0);

std::vector<float> ToFloats(const reference::Tensor& x);
reference::Tensor ToTensor(const std::vector<float>& x);

}  // namespace normlab::engine::testing
