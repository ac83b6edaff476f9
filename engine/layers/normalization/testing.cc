#include "engine/layers/normalization/testing.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/layers/testing.h"

namespace normlab::engine::testing {
namespace {

size_t IndexOf(const ChannelBlocking& layout, int64_t n, int64_t c, int64_t a) {
  return static_cast<size_t>(((n * layout.blocks() + c / layout.block) * layout.area + a) *
                                 layout.block +
                             c % layout.block);
}

}  // namespace

std::vector<ChannelBlocking> LayoutsOf(const reference::NormShape& shape) {
  std::vector<ChannelBlocking> layouts;
  for (const int64_t block : {int64_t{1}, int64_t{8}, int64_t{16}, shape.channels}) {
    layouts.push_back({shape.batch, shape.channels, shape.area, block});
  }
  return layouts;
}

std::string Describe(const ChannelBlocking& layout) {
  return absl::StrCat(layout.batch, "x", layout.channels, "x", layout.area, " in blocks of ",
                      layout.block);
}

int64_t FloatsOf(const ChannelBlocking& layout) {
  return layout.batch * layout.blocks() * layout.area * layout.block;
}

Scratch::Scratch(int64_t bytes)
    : memory_(static_cast<size_t>(bytes / 8 + 9), std::numeric_limits<double>::quiet_NaN()) {}

std::byte* Scratch::data() {
  auto* memory = reinterpret_cast<std::byte*>(memory_.data());
  return memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
}

std::vector<float> Pack(const ChannelBlocking& layout, const reference::Tensor& x) {
  std::vector<float> packed(static_cast<size_t>(FloatsOf(layout)),
                            std::numeric_limits<float>::quiet_NaN());
  const reference::NormShape shape = {layout.batch, layout.channels, layout.area};
  for (int64_t n = 0; n < layout.batch; ++n) {
    for (int64_t c = 0; c < layout.channels; ++c) {
      for (int64_t a = 0; a < layout.area; ++a) {
        packed[IndexOf(layout, n, c, a)] =
            static_cast<float>(x[static_cast<size_t>(shape.at(n, c, a))]);
      }
    }
  }
  return packed;
}

reference::Tensor Unpack(const ChannelBlocking& layout, const std::vector<float>& x) {
  const reference::NormShape shape = {layout.batch, layout.channels, layout.area};
  reference::Tensor plain(static_cast<size_t>(layout.batch * layout.channels * layout.area));
  for (int64_t n = 0; n < layout.batch; ++n) {
    for (int64_t c = 0; c < layout.blocks() * layout.block; ++c) {
      for (int64_t a = 0; a < layout.area; ++a) {
        const float value = x[IndexOf(layout, n, c, a)];
        if (c < layout.channels) {
          plain[static_cast<size_t>(shape.at(n, c, a))] = static_cast<double>(value);
        } else {
          EXPECT_EQ(value, 0.0F) << "padding of " << Describe(layout);
        }
      }
    }
  }
  return plain;
}

reference::Tensor Inputs(const reference::NormShape& shape, double offset) {
  reference::Tensor x = Random("x", shape.batch * shape.channels * shape.area);
  for (int64_t n = 0; n < shape.batch; ++n) {
    for (int64_t c = 0; c < shape.channels; ++c) {
      for (int64_t a = 0; a < shape.area; ++a) {
        double& v = x[static_cast<size_t>(shape.at(n, c, a))];
        const double scale = 0.5 + static_cast<double>(c % 7) / 5 + static_cast<double>(n % 3) / 8;
        const double mean = static_cast<double>(c % 5) / 2 - 1 + static_cast<double>(n % 4) / 4;
        v = static_cast<double>(static_cast<float>(v * scale + mean + offset));
      }
    }
  }
  return x;
}

std::vector<float> ToFloats(const reference::Tensor& x) {
  return {x.begin(), x.end()};
}

reference::Tensor ToTensor(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

}  // namespace normlab::engine::testing
