#include "engine/layers/single_layer.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::kFloatTolerance;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

Tensor Copy(absl::Span<const float> values) {
  return Tensor(values.begin(), values.end());
}

const ParameterSpec& Find(const std::vector<ParameterSpec>& specs, absl::string_view ending) {
  const auto found = std::find_if(specs.begin(), specs.end(), [&](const ParameterSpec& spec) {
    return absl::EndsWith(spec.name, ending);
  });
  EXPECT_NE(found, specs.end()) << ending;
  return *found;
}

// Convolutions answer in blocked layouts where 16 divides the channels: what is read is plain.
TEST(SingleLayerTest, AnswersInPlainLayoutWhateverTheLayerComputesIn) {
  constexpr int64_t kBatch = 3;
  auto layer = SingleLayer::Plan("conv", ConvNode{.out_channels = 32}, {16, 5, 7},
                                 {.batch = kBatch, .backward = true});
  ASSERT_TRUE(layer.ok()) << layer.status();
  const ParameterSpec& weight = Find((*layer)->parameters(), ".weight");
  const Tensor w = Random("w", weight.count);
  std::copy(w.begin(), w.end(), (*layer)->values(weight).begin());
  const Tensor x = Random("x", kBatch * 16 * 5 * 7);
  std::copy(x.begin(), x.end(), (*layer)->input().begin());
  (*layer)->Forward();

  // The same sums by the harness of the layer tests, which is checked against the reference.
  testing::LayerHarness harness({16, 5, 7}, ConvNode{.out_channels = 32}, kBatch);
  ASSERT_TRUE(harness.status().ok());
  harness.Set("weight", w);
  harness.Set("bias", Tensor(32));
  EXPECT_LT(RelativeError(Copy((*layer)->output()), harness.Forward(x)), kFloatTolerance);
  const Tensor d_y = Random("dy", kBatch * 32 * 5 * 7);
  std::copy(d_y.begin(), d_y.end(), (*layer)->output_gradient().begin());
  (*layer)->Backward();
  EXPECT_LT(RelativeError(Copy((*layer)->input_gradient()), harness.Backward(d_y)),
            kFloatTolerance);
  EXPECT_LT(RelativeError(Copy((*layer)->gradient(weight)), harness.Gradient("weight")),
            kFloatTolerance);
}

TEST(SingleLayerTest, ParametersStartAtTheirConstants) {
  auto layer = SingleLayer::Plan("bn", BatchNormNode(), {5}, {.batch = 3});
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_EQ(Copy((*layer)->values(Find((*layer)->parameters(), ".weight"))), Tensor(5, 1.0));
  EXPECT_EQ(Copy((*layer)->values(Find((*layer)->parameters(), ".bias"))), Tensor(5, 0.0));
  EXPECT_EQ(Copy((*layer)->values(Find((*layer)->state(), ".running_mean"))), Tensor(5, 0.0));
  EXPECT_EQ(Copy((*layer)->values(Find((*layer)->state(), ".running_var"))), Tensor(5, 1.0));
  EXPECT_TRUE((*layer)->output_gradient().empty());
  EXPECT_TRUE((*layer)->input_gradient().empty());
  EXPECT_FALSE((*layer)->implementations().empty());
}

TEST(SingleLayerTest, SaysWhatCannotBePlanned) {
  EXPECT_EQ(SingleLayer::Plan("bn", BatchNormNode(), {5}, {.batch = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      SingleLayer::Plan("gn", GroupNormNode{.groups = 4}, {6, 2, 2}, {.batch = 2}).status().code(),
      absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(
      SingleLayer::Plan("bn", BatchNormNode(), {5}, {.batch = 1, .mode = Mode::kEvaluation}).ok());
}

}  // namespace
}  // namespace normlab::engine
