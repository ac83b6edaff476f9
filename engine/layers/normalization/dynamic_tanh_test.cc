#include "engine/layers/normalization/dynamic_tanh.h"

#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::Tensor;
using testing::Describe;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::LayoutsOf;
using testing::Pack;
using testing::Random;
using testing::RelativeError;
using testing::Scratch;
using testing::ToFloats;
using testing::ToTensor;
using testing::Unpack;

TEST(DynamicTanhTest, MatchesTheReferenceInEveryLayout) {
  for (const NormShape& shape :
       {NormShape{3, 5, 7}, NormShape{7, 19, 1}, NormShape{2, 131, 4}, NormShape{3, 33, 400}}) {
    const Tensor x = Inputs(shape), d_y = Random("d", static_cast<int64_t>(x.size()));
    const float alpha = 0.5F;
    for (const bool affine : {true, false}) {
      const std::vector<float> gamma = ToFloats(Random("gamma", shape.channels));
      const std::vector<float> beta = ToFloats(Random("beta", shape.channels));
      const Tensor gamma_in = affine ? ToTensor(gamma) : Tensor();
      const Tensor beta_in = affine ? ToTensor(beta) : Tensor();
      const Tensor y = reference::DynamicTanhForward(shape, 0.5, gamma_in, beta_in, x);
      const reference::DynamicTanhGradients d =
          reference::DynamicTanhBackward(shape, 0.5, gamma_in, x, d_y);
      for (const ChannelBlocking& layout : LayoutsOf(shape)) {
        SCOPED_TRACE(Describe(layout));
        std::vector<float> d_gamma(gamma.size(), 77), d_beta(gamma.size(), 77);
        float d_alpha = 77;
        NormalizerTensors tensors = {.d_gamma = d_gamma.data(), .d_beta = d_beta.data()};
        if (affine) {
          tensors.gamma = gamma.data();
          tensors.beta = beta.data();
        }
        DynamicTanh layer(layout, tensors, &alpha, &d_alpha);
        const std::vector<float> packed_x = Pack(layout, x);
        std::vector<float> packed_d = Pack(layout, d_y), out(packed_x.size(), 7);
        layer.Forward(packed_x.data(), out.data());
        EXPECT_LT(RelativeError(Unpack(layout, out), y), kFloatTolerance);
        layer.Backward(packed_x.data(), packed_d.data(), packed_d.data(),
                       Scratch(layer.scratch_bytes()).data());
        EXPECT_LT(RelativeError(Unpack(layout, packed_d), d.d_x), kFloatTolerance);
        EXPECT_LT(RelativeError(ToTensor(d_gamma), d.d_gamma), kFloatTolerance);
        EXPECT_LT(RelativeError(ToTensor(d_beta), d.d_beta), kFloatTolerance);
        EXPECT_LT(RelativeError({static_cast<double>(d_alpha)}, {d.d_alpha}), kFloatTolerance);
      }
    }
  }
}

}  // namespace
}  // namespace normlab::engine
