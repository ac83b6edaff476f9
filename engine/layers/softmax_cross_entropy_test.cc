#include "engine/layers/softmax_cross_entropy.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::kFloatTolerance;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

// Plans and runs the loss on its own.
class LossHarness {
 public:
  LossHarness(int64_t batch,
              int64_t classes,
              const Tensor& logits,
              const std::vector<int32_t>& labels)
      : planner_(*Runtime::Create(), {.batch = batch}) {
    Graph graph({classes});
    EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
    layer_ = std::make_unique<SoftmaxCrossEntropyLayer>(graph.nodes()[0]);
    const View x = planner_.ReserveKept(Layout::RowMajor({batch, classes}));
    EXPECT_TRUE(layer_->PlanForward(planner_, absl::MakeConstSpan(&x, 1)).ok());
    planner_.Tick();
    d_x_ = *layer_->PlanBackward(planner_, View(), /*wants_d_x=*/true);
    EXPECT_TRUE(planner_.Finish().ok());
    std::copy(logits.begin(), logits.end(), x.floats());
    std::copy(labels.begin(), labels.end(), layer_->labels().begin());
    layer_->Forward();
    layer_->Backward();
  }

  double loss() const { return layer_->loss(); }
  int64_t correct() const { return layer_->correct(); }
  Tensor d_logits() const {
    return Tensor(d_x_.floats(), d_x_.floats() + layer_->outputs().size());
  }

 private:
  Planner planner_;
  std::unique_ptr<SoftmaxCrossEntropyLayer> layer_;
  View d_x_;
};

TEST(SoftmaxCrossEntropyTest, EqualLogitsCostTheLogarithmOfTheClasses) {
  const LossHarness harness(2, 10, Tensor(20, 1.25), {0, 3});
  EXPECT_NEAR(harness.loss(), std::log(10), 1e-12);
  EXPECT_EQ(harness.correct(), 1) << "the first of equal logits is the answer";
}

TEST(SoftmaxCrossEntropyTest, MatchesReference) {
  struct Shape {
    int64_t batch, classes;
  };
  for (const Shape shape :
       {Shape{1, 1}, Shape{3, 2}, Shape{7, 10}, Shape{60, 10}, Shape{5, 33}, Shape{2, 1000}}) {
    for (const double scale : {0.1, 1.0, 30.0}) {
      SCOPED_TRACE(::testing::Message()
                   << shape.batch << "x" << shape.classes << " scale " << scale);
      Tensor logits = Random("x", shape.batch * shape.classes);
      std::vector<int32_t> labels;
      for (int64_t n = 0; n < shape.batch; ++n) {
        labels.push_back(static_cast<int32_t>((n * 7 + 3) % shape.classes));
      }
      for (double& v : logits) {
        v = static_cast<float>(v * scale);
      }
      const LossHarness harness(shape.batch, shape.classes, logits, labels);
      const auto expected =
          reference::SoftmaxCrossEntropy(shape.batch, shape.classes, logits, labels);
      EXPECT_NEAR(harness.loss(), expected.mean, kFloatTolerance * std::max(1.0, expected.mean));
      EXPECT_EQ(harness.correct(), expected.correct);
      EXPECT_LT(RelativeError(harness.d_logits(), expected.d_logits), kFloatTolerance);
    }
  }
}

TEST(SoftmaxCrossEntropyTest, HugeLogitsAreNoProblem) {
  const LossHarness harness(1, 3, {3e38, 0, -3e38}, {1});
  EXPECT_FALSE(std::isnan(harness.loss()));
  EXPECT_GT(harness.loss(), 1e38);
  const LossHarness right(1, 3, {3e38, 0, -3e38}, {0});
  EXPECT_EQ(right.loss(), 0);
  EXPECT_EQ(right.d_logits(), Tensor({0, 0, 0}));
}

TEST(SoftmaxCrossEntropyTest, NanAndInfinityReachTheLoss) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (size_t where = 0; where < 6; ++where) {
    Tensor logits = {1, 2, 3, 6, 5, 4};
    logits[where] = kNan;
    const LossHarness harness(2, 3, logits, {0, 0});
    EXPECT_TRUE(std::isnan(harness.loss())) << where;
    EXPECT_EQ(harness.correct(), where < 3 ? 1 : 0) << "a row with NaN answers nothing";
    logits[where] = kInfinity;
    EXPECT_FALSE(std::isfinite(LossHarness(2, 3, logits, {0, 0}).loss())) << where;
  }
  EXPECT_FALSE(std::isfinite(LossHarness(1, 2, {-kInfinity, 1}, {0}).loss()));
}

}  // namespace
}  // namespace normlab::engine
