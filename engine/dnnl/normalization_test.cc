#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/internal.h"
#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using testing::NameOf;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;
using Tag = dnnl::memory::format_tag;

constexpr float kEpsilon = 1e-3F;
// Values here are below 10 and sets have up to 300 of them: single-precision sums and a square root
// leave a few units of 2^-24 of that.
constexpr double kSlack = 4e-6;
// Gradients of gamma and beta are sums of up to 300 such values.
constexpr double kSumSlack = 3e-5;

// Which values are normalized together, and which gamma and beta each has.
struct Sets {
  std::vector<size_t> set;
  std::vector<size_t> channel;
  size_t set_count = 0;
  size_t channel_count = 0;
};

// `groups`: 0 for sets that are a channel of the whole batch (batch norm); else that many sets for
// each example.
Sets ImageSets(int64_t batch, int64_t channels, int64_t area, int64_t groups) {
  Sets sets;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t set = groups == 0 ? c : n * groups + c / (channels / groups);
      sets.set.insert(sets.set.end(), static_cast<size_t>(area), static_cast<size_t>(set));
      sets.channel.insert(sets.channel.end(), static_cast<size_t>(area), static_cast<size_t>(c));
    }
  }
  sets.set_count = static_cast<size_t>(groups == 0 ? channels : batch * groups);
  sets.channel_count = static_cast<size_t>(channels);
  return sets;
}

struct Reference {
  Values mean, var, y, d_x, d_gamma, d_beta;
};

// y = gamma (x - mean) / sqrt(var + epsilon) + beta over the sets, with its gradients, in double
// precision. `relu`: y and d_y pass through one. `constant`: mean and var are given, and no gradient
// flows through them.
Reference Normalize(const Sets& sets,
                    const Values& x,
                    const Values& gamma,
                    const Values& beta,
                    Values d_y,
                    bool relu = false,
                    const Values& given_mean = {},
                    const Values& given_var = {}) {
  Reference r;
  Values size(sets.set_count);
  r.mean.resize(sets.set_count);
  r.var.resize(sets.set_count);
  for (size_t i = 0; i < x.size(); ++i) {
    size[sets.set[i]] += 1;
    r.mean[sets.set[i]] += x[i];
  }
  for (size_t s = 0; s < sets.set_count; ++s) {
    r.mean[s] /= size[s];
  }
  for (size_t i = 0; i < x.size(); ++i) {
    r.var[sets.set[i]] += std::pow(x[i] - r.mean[sets.set[i]], 2);
  }
  for (size_t s = 0; s < sets.set_count; ++s) {
    r.var[s] /= size[s];
  }
  const bool constant = !given_mean.empty();
  if (constant) {
    r.mean = given_mean;
    r.var = given_var;
  }
  Values x_hat(x.size());
  r.y.resize(x.size());
  r.d_gamma.resize(sets.channel_count);
  r.d_beta.resize(sets.channel_count);
  Values sum(sets.set_count);
  Values sum_x_hat(sets.set_count);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t s = sets.set[i];
    const size_t c = sets.channel[i];
    x_hat[i] = (x[i] - r.mean[s]) / std::sqrt(r.var[s] + double{kEpsilon});
    r.y[i] = gamma[c] * x_hat[i] + beta[c];
    if (relu && r.y[i] <= 0) {
      r.y[i] = 0;
      d_y[i] = 0;
    }
    r.d_gamma[c] += d_y[i] * x_hat[i];
    r.d_beta[c] += d_y[i];
    sum[s] += d_y[i] * gamma[c];
    sum_x_hat[s] += d_y[i] * gamma[c] * x_hat[i];
  }
  r.d_x.resize(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t s = sets.set[i];
    const double through = constant ? 0 : (sum[s] + x_hat[i] * sum_x_hat[s]) / size[s];
    r.d_x[i] = (d_y[i] * gamma[sets.channel[i]] - through) / std::sqrt(r.var[s] + double{kEpsilon});
  }
  return r;
}

// Inputs of `count` values and `channels` channels, not centred, as after a convolution with bias.
struct Inputs {
  Values x, gamma, beta, d_y;

  Inputs(int64_t count, int64_t channels, DataType type, bool affine)
      : x(RandomValues(count, 1, type, -1, 3)),
        gamma(affine ? RandomValues(channels, 2, DataType::kF32, 0.5, 2)
                     : Values(static_cast<size_t>(channels), 1)),
        beta(affine ? RandomValues(channels, 3) : Values(static_cast<size_t>(channels), 0)),
        d_y(RandomValues(count, 4, type)) {}
};

// Sets what both passes read; the backward pass gets the reference's statistics.
void SetCommon(OpRunner& op, const Inputs& in) {
  op.Set(Arg::kSource, in.x);
  op.Set(Arg::kScale, in.gamma);
  op.Set(Arg::kShift, in.beta);
  op.Set(Arg::kDiffDestination, in.d_y);
}

void CheckGradients(const OpRunner& backward, const Reference& want, DataType type, bool affine) {
  const std::string by = " by " + backward.op().implementation();
  // d_x is up to 1/sqrt(var) times as large as d_y.
  ExpectClose(backward.Get(Arg::kDiffSource), want.d_x, 10, type, kSlack, "d_x" + by);
  ASSERT_EQ(backward.op().has(Arg::kDiffScale), affine);
  if (affine) {
    ExpectClose(backward.Get(Arg::kDiffScale), want.d_gamma, 10, DataType::kF32, kSumSlack,
                "d_gamma" + by);
    ExpectClose(backward.Get(Arg::kDiffShift), want.d_beta, 10, DataType::kF32, kSumSlack,
                "d_beta" + by);
  }
}

void CheckBatchNorm(const Layout& layout, const Sets& sets, bool affine, bool relu) {
  const DataType type = layout.type();
  SCOPED_TRACE(absl::StrCat(layout.ToString(), affine ? " affine" : "", relu ? " relu" : ""));
  const Inputs in(static_cast<int64_t>(sets.set.size()), static_cast<int64_t>(sets.channel_count),
                  type, affine);
  const BatchNormOptions options{.epsilon = kEpsilon, .affine = affine, .fuse_relu = relu};
  const Reference want = Normalize(sets, in.x, in.gamma, in.beta, in.d_y, relu);

  OpRunner forward(MakeBatchNormForward(TestRuntime(), options, layout));
  SetCommon(forward, in);
  forward.Run();
  const std::string by = " by " + forward.op().implementation();
  ExpectClose(forward.Get(Arg::kMean), want.mean, 10, DataType::kF32, kSlack, "mean" + by);
  ExpectClose(forward.Get(Arg::kVariance), want.var, 10, DataType::kF32, kSlack, "var" + by);
  ExpectClose(forward.Get(Arg::kDestination), want.y, 10, type, kSlack, "y" + by);
  EXPECT_EQ(forward.op().has(Arg::kWorkspace), relu);

  OpRunner backward(MakeBatchNormBackward(TestRuntime(), options, layout, forward.op()));
  SetCommon(backward, in);
  backward.Set(Arg::kMean, want.mean);
  backward.Set(Arg::kVariance, want.var);
  if (relu) {
    backward.Copy(Arg::kWorkspace, forward);
  }
  backward.Run();
  CheckGradients(backward, want, type, affine);
}

Layout Tagged(const std::vector<int64_t>& dims, Tag tag, DataType type) {
  return Layout(Layout::Impl{dnnl::memory::desc(dims, dnnl::memory::data_type::f32, tag)})
      .WithType(type);
}

class NormalizationTest : public ::testing::TestWithParam<DataType> {};
INSTANTIATE_TEST_SUITE_P(Types,
                         NormalizationTest,
                         ::testing::Values(DataType::kF32, DataType::kBf16),
                         [](const auto& of) { return NameOf(of.param); });

TEST_P(NormalizationTest, BatchNormMatchesTheLoops) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  const std::vector<int64_t> image = {3, 19, 5, 7};
  const Layout layouts[] = {
      Layout::RowMajor(image, type),
      Layout::ChannelsLast(image, type),
      Tagged(image, Tag::aBcd8b, type),
      Tagged(image, Tag::aBcd16b, type),
  };
  for (const Layout& layout : layouts) {
    for (const bool affine : {true, false}) {
      CheckBatchNorm(layout, ImageSets(3, 19, 35, 0), affine, /*relu=*/false);
    }
  }
  const Sets dense = ImageSets(37, 32, 1, 0);
  CheckBatchNorm(Layout::ChannelsLast({37, 32, 1, 1}, type), dense, /*affine=*/true,
                 /*relu=*/false);
  CheckBatchNorm(Layout::RowMajor({37, 32}, type), dense, /*affine=*/true, /*relu=*/false);
}

TEST(BatchNormTest, FusesRelu) {
  const std::vector<int64_t> image = {3, 32, 5, 7};
  for (const Layout& layout : {Layout::ChannelsLast(image), Layout::RowMajor(image)}) {
    CheckBatchNorm(layout, ImageSets(3, 32, 35, 0), /*affine=*/true, /*relu=*/true);
  }
}

TEST_P(NormalizationTest, BatchNormEvaluatesWithGivenStatistics) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  const Sets sets = ImageSets(3, 19, 35, 0);
  const Inputs in(3 * 19 * 35, 19, type, /*affine=*/true);
  const Values mean = RandomValues(19, 5);
  const Values var = RandomValues(19, 6, DataType::kF32, 0.5, 2);
  const BatchNormOptions options{.epsilon = kEpsilon, .given_statistics = true};
  OpRunner op(
      MakeBatchNormForward(TestRuntime(), options, Layout::ChannelsLast({3, 19, 5, 7}, type)));
  SetCommon(op, in);
  op.Set(Arg::kMean, mean);
  op.Set(Arg::kVariance, var);
  op.Run();
  const Reference want =
      Normalize(sets, in.x, in.gamma, in.beta, in.d_y, /*relu=*/false, mean, var);
  ExpectClose(op.Get(Arg::kDestination), want.y, 10, type, kSlack, "y");
  EXPECT_EQ(op.Get(Arg::kMean), mean) << "an input stays what it was";
}

// Each set of group norm, seen as a channel of one example; gamma and beta then stay with us.
TEST_P(NormalizationTest, BatchNormOnAViewIsGroupAndInstanceNorm) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  constexpr int64_t kBatch = 3, kChannels = 12, kHeight = 5, kWidth = 7;
  for (const int64_t groups : {int64_t{1}, int64_t{3}, kChannels}) {
    SCOPED_TRACE(absl::StrCat(groups, " groups"));
    const Sets sets = ImageSets(kBatch, kChannels, kHeight * kWidth, groups);
    const Inputs in(kBatch * kChannels * kHeight * kWidth, kChannels, type, /*affine=*/false);
    const Reference want = Normalize(sets, in.x, in.gamma, in.beta, in.d_y);
    const Layout view =
        Layout::RowMajor({1, kBatch * groups, kChannels / groups * kHeight, kWidth}, type);
    const BatchNormOptions options{.epsilon = kEpsilon, .affine = false};
    OpRunner forward(MakeBatchNormForward(TestRuntime(), options, view));
    SetCommon(forward, in);
    forward.Run();
    // The whole error of a result of order 1, in single precision.
    constexpr double kViewSlack = 1e-6;
    ExpectClose(forward.Get(Arg::kDestination), want.y, 1, type, kViewSlack, "y");
    ExpectClose(forward.Get(Arg::kMean), want.mean, 1, DataType::kF32, kViewSlack, "mean");
    ExpectClose(forward.Get(Arg::kVariance), want.var, 2, DataType::kF32, kViewSlack, "var");
    OpRunner backward(MakeBatchNormBackward(TestRuntime(), options, view, forward.op()));
    SetCommon(backward, in);
    backward.Copy(Arg::kMean, forward);
    backward.Copy(Arg::kVariance, forward);
    backward.Run();
    ExpectClose(backward.Get(Arg::kDiffSource), want.d_x, 2, type, kViewSlack, "d_x");
  }
}

TEST_P(NormalizationTest, LayerNormMatchesTheLoops) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  for (const auto& [rows, width] : {std::pair{5, 19}, std::pair{37, 64}, std::pair{3, 257}}) {
    // A row is a set; every column has its gamma and beta.
    const Sets sets = ImageSets(rows, width, 1, 1);
    for (const bool affine : {true, false}) {
      SCOPED_TRACE(absl::StrCat(rows, "x", width, affine ? " affine" : ""));
      const Inputs in(rows * width, width, type, affine);
      const Reference want = Normalize(sets, in.x, in.gamma, in.beta, in.d_y);
      const LayerNormOptions options{.epsilon = kEpsilon, .affine = affine};
      const Layout layout = Layout::RowMajor({rows, width}, type);

      OpRunner forward(MakeLayerNormForward(TestRuntime(), options, layout, /*training=*/true));
      SetCommon(forward, in);
      forward.Run();
      const std::string by = " by " + forward.op().implementation();
      EXPECT_EQ(forward.op().layout(Arg::kMean), Layout::RowMajor({rows}));
      ExpectClose(forward.Get(Arg::kMean), want.mean, 10, DataType::kF32, kSlack, "mean" + by);
      ExpectClose(forward.Get(Arg::kVariance), want.var, 10, DataType::kF32, kSlack, "var" + by);
      ExpectClose(forward.Get(Arg::kDestination), want.y, 10, type, kSlack, "y" + by);

      OpRunner backward(MakeLayerNormBackward(TestRuntime(), options, layout, forward.op()));
      SetCommon(backward, in);
      backward.Set(Arg::kMean, want.mean);
      backward.Set(Arg::kVariance, want.var);
      backward.Run();
      CheckGradients(backward, want, type, affine);

      OpRunner evaluation(MakeLayerNormForward(TestRuntime(), options, layout, /*training=*/false));
      EXPECT_FALSE(evaluation.op().has(Arg::kMean)) << "nobody asks for the statistics";
      SetCommon(evaluation, in);
      evaluation.Run();
      ExpectClose(evaluation.Get(Arg::kDestination), want.y, 10, type, kSlack, "y of evaluation");
    }
  }
}

TEST_P(NormalizationTest, LayerNormTakesGivenStatisticsForConstants) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  constexpr int64_t kRows = 5, kWidth = 33;
  const Sets sets = ImageSets(kRows, kWidth, 1, 1);
  const Inputs in(kRows * kWidth, kWidth, type, /*affine=*/true);
  const Values mean = RandomValues(kRows, 5);
  const Values var = RandomValues(kRows, 6, DataType::kF32, 0.5, 2);
  const Reference want =
      Normalize(sets, in.x, in.gamma, in.beta, in.d_y, /*relu=*/false, mean, var);
  const LayerNormOptions options{.epsilon = kEpsilon, .given_statistics = true};
  const Layout layout = Layout::RowMajor({kRows, kWidth}, type);
  OpRunner forward(MakeLayerNormForward(TestRuntime(), options, layout, /*training=*/true));
  OpRunner backward(MakeLayerNormBackward(TestRuntime(), options, layout, forward.op()));
  for (OpRunner* op : {&forward, &backward}) {
    SetCommon(*op, in);
    op->Set(Arg::kMean, mean);
    op->Set(Arg::kVariance, var);
    op->Run();
  }
  ExpectClose(forward.Get(Arg::kDestination), want.y, 10, type, kSlack, "y");
  CheckGradients(backward, want, type, /*affine=*/true);
}

}  // namespace
}  // namespace normlab::engine
