// Global average pooling, padding, subsampling, scalar multipliers and biases.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/status_macros.h"
#include "engine/layers/reference_structural.h"
#include "engine/layers/scalar_kernels.h"
#include "engine/layers/table.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::CentralDifference;
using ::testing::ElementsAre;
using testing::kDifferenceTolerance;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

// A 1x1 convolution to `channels` and then the layer under test, so that it gets the layout that
// convolutions leave behind (blocked, with padding channels when 16 does not divide them), and a
// convolution after it, so that padding that is not zero would show.
class BetweenConvolutions {
 public:
  BetweenConvolutions(const Dims& in, int64_t channels, NodeKind kind, int64_t batch) : graph_(in) {
    const ConvNode conv = {
        .out_channels = channels, .kernel = 1, .stride = 1, .padding = 0, .bias = false};
    EXPECT_TRUE(graph_.Add("before", conv).ok());
    EXPECT_TRUE(graph_.Add("layer", std::move(kind)).ok());
    if (graph_.nodes().back().out.size() == 3) {
      EXPECT_TRUE(graph_.Add("after", conv).ok());
    }
    parameters_.resize(static_cast<size_t>(graph_.parameter_floats()));
    gradients_.resize(parameters_.size());
    status_ = Plan(batch);
  }

  const absl::Status& status() const { return status_; }
  const Graph& graph() const { return graph_; }
  bool blocked() const { return blocked_; }

  float* Find(std::vector<float>& arena, absl::string_view name) {
    for (const ParameterSpec& spec : graph_.parameters()) {
      if (spec.name == name) {
        return arena.data() + spec.offset;
      }
    }
    ADD_FAILURE() << "no tensor " << name;
    return arena.data();
  }
  float* Value(absl::string_view name) { return Find(parameters_, name); }
  float* Gradient(absl::string_view name) { return Find(gradients_, name); }

  Tensor Forward(const Tensor& x) {
    std::copy(x.begin(), x.end(), x_.floats());
    for (const auto& layer : layers_) {
      layer->ParametersChanged();
    }
    for (const auto& layer : layers_) {
      layer->Forward();
    }
    RunAll(read_y_);
    return Tensor(y_.floats(), y_.floats() + y_.layout.element_count());
  }
  // Fills the gradients.
  void Backward(const Tensor& d_y) {
    std::copy(d_y.begin(), d_y.end(), d_y_.floats());
    for (size_t i = layers_.size(); i-- > 0;) {
      layers_[i]->Backward();
    }
  }

 private:
  absl::Status Plan(int64_t batch) {
    NORMLAB_ASSIGN_OR_RETURN(Runtime runtime, Runtime::Create());
    planner_ = std::make_unique<Planner>(runtime, PlanOptions{.batch = batch});
    Dims dims = graph_.input();
    dims.insert(dims.begin(), batch);
    x_ = planner_->ReserveKept(Layout::RowMajor(dims));
    View view = x_;
    for (const Node& node : graph_.nodes()) {
      layers_.push_back(
          MakeLayer(node, nullptr,
                    FindParameters(graph_, node, parameters_.data(), gradients_.data(), nullptr)));
      planner_->Tick();
      NORMLAB_ASSIGN_OR_RETURN(
          view, layers_.back()->PlanForward(*planner_, absl::MakeConstSpan(&view, 1)));
      if (layers_.size() == 1) {
        blocked_ = !view.layout.is_row_major();
      }
    }
    planner_->Tick();
    y_ = planner_->ReserveKept(Layout::RowMajor(view.layout.dims()));
    NORMLAB_RETURN_IF_ERROR(planner_->ConvertInto("test", view, y_, read_y_));
    d_y_ = planner_->ReserveKept(y_.layout);
    View d = d_y_;
    for (size_t i = layers_.size(); i-- > 0;) {
      planner_->Tick();
      NORMLAB_ASSIGN_OR_RETURN(d, layers_[i]->PlanBackward(*planner_, d, /*wants_d_x=*/i > 0));
    }
    return planner_->Finish();
  }

  Graph graph_;
  std::vector<float> parameters_, gradients_;
  std::unique_ptr<Planner> planner_;
  std::vector<std::unique_ptr<Layer>> layers_;
  absl::Status status_;
  bool blocked_ = false;
  View x_, y_, d_y_;
  OpList read_y_;
};

// The same in double.
struct Expected {
  Tensor y, d_before, d_scalar;
};
Expected RunReference(BetweenConvolutions& network,
                      int64_t batch,
                      const Tensor& x,
                      const Tensor& d_y) {
  const Graph& graph = network.graph();
  const auto image = [batch](const Dims& dims) {
    return reference::ImageShape{batch, dims[0], dims[1], dims[2]};
  };
  const Node& before = graph.nodes()[0];
  const Node& layer = graph.nodes()[1];
  const int64_t channels = before.out[0];
  const reference::ConvShape first = {image(before.in), channels, 1, 1, 0};
  const float* w1 = network.Value("before.weight");
  const Tensor weight1(w1, w1 + channels * before.in[0]);
  const Tensor h = reference::ConvForward(first, x, weight1, {});
  const bool pools = std::holds_alternative<GlobalAveragePoolNode>(layer.kind);
  const bool scales = std::holds_alternative<ScaleNode>(layer.kind);
  const auto* subsample = std::get_if<SubsampleNode>(&layer.kind);
  Expected expected;
  Tensor z = h;
  if (pools) {
    z = reference::GlobalAveragePoolForward(image(layer.in), h);
  } else if (subsample != nullptr) {
    z = reference::SubsampleForward({image(layer.in), subsample->stride, subsample->out_channels},
                                    h);
  } else {
    for (double& v : z) {
      v = scales ? v * network.Value("layer.scale")[0] : v + network.Value("layer.bias")[0];
    }
  }
  Tensor d_z = d_y;
  expected.y = z;
  if (!pools) {
    const reference::ConvShape second = {image(layer.out), channels, 1, 1, 0};
    const float* w2 = network.Value("after.weight");
    const Tensor weight2(w2, w2 + channels * layer.out[0]);
    expected.y = reference::ConvForward(second, z, weight2, {});
    d_z = reference::ConvBackward(second, z, weight2, d_y).d_x;
  }
  Tensor d_h = d_z;
  double d_scalar = 0;
  if (pools) {
    d_h = reference::GlobalAveragePoolBackward(image(layer.in), d_z);
  } else if (subsample != nullptr) {
    d_h = reference::SubsampleBackward(
        {image(layer.in), subsample->stride, subsample->out_channels}, d_z);
  } else {
    for (size_t i = 0; i < h.size(); ++i) {
      d_scalar += scales ? d_z[i] * h[i] : d_z[i];
      d_h[i] = scales ? d_z[i] * network.Value("layer.scale")[0] : d_z[i];
    }
  }
  expected.d_scalar = {d_scalar};
  expected.d_before = reference::ConvBackward(first, x, weight1, d_h).d_w;
  return expected;
}

TEST(StructuralLayersTest, InTheLayoutsOfConvolutions) {
  const int64_t batch = 3;
  bool saw_blocked = false;
  // 40x33x9x7 is beyond the size from which threads share the work.
  for (const auto& [channels, examples] :
       {std::pair<int64_t, int64_t>{16, batch}, {5, batch}, {33, batch}, {33, 40}}) {
    const NodeKind kinds[] = {GlobalAveragePoolNode{}, ScaleNode{}, ScalarBiasNode{},
                              SubsampleNode{.stride = 2, .out_channels = channels + 3},
                              SubsampleNode{.stride = 3, .out_channels = channels}};
    for (const NodeKind& kind : kinds) {
      SCOPED_TRACE(::testing::Message() << "channels " << channels << " kind " << kind.index());
      BetweenConvolutions network({4, 9, 7}, channels, kind, examples);
      ASSERT_TRUE(network.status().ok()) << network.status();
      saw_blocked |= network.blocked();
      for (const ParameterSpec& spec : network.graph().parameters()) {
        const Tensor values = Random(spec.name, spec.count);
        std::copy(values.begin(), values.end(), network.Value(spec.name));
      }
      const Tensor x = Random("x", examples * 4 * 9 * 7);
      const Tensor d_y = Random("d", examples * ElementCount(network.graph().nodes().back().out));
      const Expected expected = RunReference(network, examples, x, d_y);
      EXPECT_LT(RelativeError(network.Forward(x), expected.y), kFloatTolerance);
      network.Backward(d_y);
      const float* d_w = network.Gradient("before.weight");
      EXPECT_LT(RelativeError(Tensor(d_w, d_w + channels * 4), expected.d_before), kFloatTolerance);
      if (std::holds_alternative<ScaleNode>(kind) || std::holds_alternative<ScalarBiasNode>(kind)) {
        const char* name = std::holds_alternative<ScaleNode>(kind) ? "layer.scale" : "layer.bias";
        // Sums of thousands of terms of both signs: relative to their number's root.
        constexpr double kSumTolerance = 1e-4;
        EXPECT_NEAR(network.Gradient(name)[0], expected.d_scalar[0],
                    kSumTolerance * std::sqrt(static_cast<double>(x.size())));
      }
    }
  }
  EXPECT_TRUE(saw_blocked) << "no convolution chose a layout of its own: nothing was tested";
}

TEST(StructuralLayersTest, OnPlainTensors) {
  for (const int64_t batch : {1, 7}) {
    LayerHarness pool({5, 6, 3}, GlobalAveragePoolNode{}, batch);
    ASSERT_TRUE(pool.status().ok()) << pool.status();
    const reference::ImageShape image = {batch, 5, 6, 3};
    const Tensor x = Random("x", image.count());
    EXPECT_LT(RelativeError(pool.Forward(x), reference::GlobalAveragePoolForward(image, x)),
              kFloatTolerance);
    const Tensor d_row = Random("d", batch * 5);
    EXPECT_LT(
        RelativeError(pool.Backward(d_row), reference::GlobalAveragePoolBackward(image, d_row)),
        kFloatTolerance);

    LayerHarness pad({5, 6, 3}, PadNode{.height = 9, .width = 4}, batch);
    ASSERT_TRUE(pad.status().ok()) << pad.status();
    const reference::PadShape padded = {image, 9, 4};
    const Tensor d_pad = Random("d", padded.out().count());
    for (int repeat = 0; repeat < 2; ++repeat) {  // the memory in between may be anybody's
      EXPECT_EQ(pad.Forward(x), reference::PadForward(padded, x));
      EXPECT_EQ(pad.Backward(d_pad), reference::PadBackward(padded, d_pad));
    }

    LayerHarness subsample({5, 6, 3}, SubsampleNode{.stride = 2, .out_channels = 8}, batch);
    ASSERT_TRUE(subsample.status().ok()) << subsample.status();
    const reference::SubsampleShape halved = {image, 2, 8};
    const Tensor d_half = Random("d", halved.out().count());
    EXPECT_EQ(subsample.Forward(x), reference::SubsampleForward(halved, x));
    EXPECT_EQ(subsample.Backward(d_half), reference::SubsampleBackward(halved, d_half));
  }
}

TEST(StructuralLayersTest, HandCases) {
  LayerHarness pad({1, 1, 2}, PadNode{.height = 2, .width = 5}, 1);
  ASSERT_TRUE(pad.status().ok()) << pad.status();
  EXPECT_THAT(pad.Forward({1, 2}), ElementsAre(0, 1, 2, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(pad.Backward({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), ElementsAre(2, 3));

  LayerHarness subsample({1, 3, 2}, SubsampleNode{.stride = 2, .out_channels = 2}, 1);
  ASSERT_TRUE(subsample.status().ok()) << subsample.status();
  EXPECT_THAT(subsample.Forward({1, 2, 3, 4, 5, 6}), ElementsAre(1, 5, 0, 0));
  EXPECT_THAT(subsample.Backward({10, 20, 30, 40}), ElementsAre(10, 0, 0, 0, 20, 0));

  // Dense features too.
  LayerHarness scale({3}, ScaleNode{.initial = 0}, 2);
  ASSERT_TRUE(scale.status().ok()) << scale.status();
  scale.Set("scale", {-2});
  EXPECT_THAT(scale.Forward({1, 2, 3, 4, 5, 6}), ElementsAre(-2, -4, -6, -8, -10, -12));
  EXPECT_THAT(scale.Backward({1, 0, 0, 0, 0, 2}), ElementsAre(-2, 0, 0, 0, 0, -4));
  EXPECT_THAT(scale.Gradient("scale"), ElementsAre(13));

  LayerHarness bias({3}, ScalarBiasNode{}, 2);
  ASSERT_TRUE(bias.status().ok()) << bias.status();
  bias.Set("bias", {0.5});
  EXPECT_THAT(bias.Forward({1, 2, 3, 4, 5, 6}), ElementsAre(1.5, 2.5, 3.5, 4.5, 5.5, 6.5));
  EXPECT_THAT(bias.Backward({1, 2, 3, 4, 5, 6}), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(bias.Gradient("bias"), ElementsAre(21));
}

TEST(StructuralLayersTest, ReferenceGradientsAreCentralDifferences) {
  const reference::ImageShape image = {2, 3, 4, 5};
  const Tensor x = Random("x", image.count());
  const reference::PadShape pad = {image, 7, 6};
  const reference::SubsampleShape subsample = {image, 3, 4};
  const Tensor d_row = Random("d", 6);
  const Tensor d_pad = Random("d", pad.out().count());
  const Tensor d_half = Random("d", subsample.out().count());
  EXPECT_LT(RelativeError(
                reference::GlobalAveragePoolBackward(image, d_row),
                CentralDifference(
                    [&](const Tensor& v) { return reference::GlobalAveragePoolForward(image, v); },
                    x, d_row)),
            kDifferenceTolerance);
  EXPECT_LT(
      RelativeError(reference::PadBackward(pad, d_pad),
                    CentralDifference(
                        [&](const Tensor& v) { return reference::PadForward(pad, v); }, x, d_pad)),
      kDifferenceTolerance);
  EXPECT_LT(
      RelativeError(reference::SubsampleBackward(subsample, d_half),
                    CentralDifference(
                        [&](const Tensor& v) { return reference::SubsampleForward(subsample, v); },
                        x, d_half)),
      kDifferenceTolerance);
}

TEST(StructuralLayersTest, SumsAreTheSameForAnyNumberOfThreads) {
  const int64_t count = 100003;
  const Tensor a = Random("a", count);
  const Tensor b = Random("b", count);
  const std::vector<float> x(a.begin(), a.end());
  const std::vector<float> y(b.begin(), b.end());
  double exact_dot = 0;
  double exact_sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    exact_dot += a[i] * b[i];
    exact_sum += a[i];
  }
  ExactSum sum(count);
  const int threads_before = omp_get_max_threads();
  double first[2] = {};
  for (const int threads : {1, 2, 3, 7}) {
    omp_set_num_threads(threads);
    const double results[2] = {sum(x.data(), y.data()), sum(x.data(), nullptr)};
    if (threads == 1) {
      std::memcpy(first, results, sizeof(first));
    }
    EXPECT_EQ(std::memcmp(first, results, sizeof(first)), 0) << threads;
  }
  omp_set_num_threads(threads_before);
  constexpr double kDoubleSum = 1e-9;
  EXPECT_NEAR(first[0], exact_dot, kDoubleSum);
  EXPECT_NEAR(first[1], exact_sum, kDoubleSum);
}

TEST(StructuralLayersTest, NanIsNotLost) {
  for (const NodeKind& kind : {NodeKind(GlobalAveragePoolNode{}), NodeKind(ScaleNode{}),
                               NodeKind(ScalarBiasNode{}), NodeKind(PadNode{6, 7})}) {
    LayerHarness harness({3, 5, 4}, kind, 2);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    Tensor x = Random("x", 2 * 3 * 5 * 4);
    x[77] = std::numeric_limits<double>::quiet_NaN();
    const Tensor y = harness.Forward(x);
    EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }))
        << kind.index();
  }
}

}  // namespace
}  // namespace normlab::engine
