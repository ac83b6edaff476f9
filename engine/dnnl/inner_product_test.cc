#include <cmath>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using testing::NameOf;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;

// Of the sum of the absolute products: single precision, at most 130 terms.
constexpr double kSumSlack = 4e-6;

struct Product {
  int64_t batch, in, out;
};

Values Absolute(Values values) {
  for (double& value : values) {
    value = std::abs(value);
  }
  return values;
}

// c [m,n] += sum over k of a(m,k) b(k,n), each operand read with its own strides.
Values Multiply(int64_t m_size,
                int64_t n_size,
                int64_t k_size,
                const Values& a,
                int64_t a_m,
                int64_t a_k,
                const Values& b,
                int64_t b_k,
                int64_t b_n) {
  Values c(static_cast<size_t>(m_size * n_size));
  for (int64_t m = 0; m < m_size; ++m) {
    for (int64_t n = 0; n < n_size; ++n) {
      for (int64_t k = 0; k < k_size; ++k) {
        c[static_cast<size_t>(m * n_size + n)] +=
            a[static_cast<size_t>(m * a_m + k * a_k)] * b[static_cast<size_t>(k * b_k + n * b_n)];
      }
    }
  }
  return c;
}

class InnerProductTest : public ::testing::TestWithParam<std::tuple<Product, DataType>> {};

TEST_P(InnerProductTest, AllPassesMatchTheLoops) {
  const auto& [s, type] = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  const Values x = RandomValues(s.batch * s.in, 1, type);
  const Values w = RandomValues(s.out * s.in, 2, type);
  const Values d_y = RandomValues(s.batch * s.out, 4, type);
  const Values b = RandomValues(s.out, 3);
  const Layout x_any = Layout::Any({s.batch, s.in}, type);
  const Layout w_any = Layout::Any({s.out, s.in}, type);
  const Layout y_row = Layout::RowMajor({s.batch, s.out}, type);
  for (const bool bias : {true, false}) {
    OpRunner forward(MakeInnerProductForward(TestRuntime(), x_any, w_any, y_row, bias,
                                             /*training=*/true));
    forward.Set(Arg::kSource, x);
    forward.Set(Arg::kWeights, w);
    forward.Set(Arg::kBias, b);
    forward.Run();
    Values y = Multiply(s.batch, s.out, s.in, x, s.in, 1, w, 1, s.in);
    Values y_magnitude = Multiply(s.batch, s.out, s.in, Absolute(x), s.in, 1, Absolute(w), 1, s.in);
    Values d_b(b.size());
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] += bias ? b[i % b.size()] : 0;
      y_magnitude[i] += 1;
      d_b[i % b.size()] += d_y[i];
    }
    ExpectClose(forward.Get(Arg::kDestination), y, y_magnitude, type, kSumSlack,
                "y by " + forward.op().implementation());

    OpRunner backward_data(
        MakeInnerProductBackwardData(TestRuntime(), x_any, w_any, y_row, forward.op()));
    backward_data.Set(Arg::kDiffDestination, d_y);
    backward_data.Set(Arg::kWeights, w);
    backward_data.Run();
    ExpectClose(backward_data.Get(Arg::kDiffSource),
                Multiply(s.batch, s.in, s.out, d_y, s.out, 1, w, s.in, 1),
                Multiply(s.batch, s.in, s.out, Absolute(d_y), s.out, 1, Absolute(w), s.in, 1), type,
                kSumSlack, "d_x by " + backward_data.op().implementation());

    for (const DataType d_w_type : {DataType::kF32, type}) {
      OpRunner backward_weights(MakeInnerProductBackwardWeights(
          TestRuntime(), x_any, Layout::Any({s.out, s.in}, d_w_type), y_row, bias, forward.op()));
      backward_weights.Set(Arg::kSource, x);
      backward_weights.Set(Arg::kDiffDestination, d_y);
      backward_weights.Run();
      ExpectClose(backward_weights.Get(Arg::kDiffWeights),
                  Multiply(s.out, s.in, s.batch, d_y, 1, s.out, x, s.in, 1),
                  Multiply(s.out, s.in, s.batch, Absolute(d_y), 1, s.out, Absolute(x), s.in, 1),
                  d_w_type, kSumSlack, "d_w by " + backward_weights.op().implementation());
      ASSERT_EQ(backward_weights.op().has(Arg::kDiffBias), bias);
      if (bias) {
        ExpectClose(backward_weights.Get(Arg::kDiffBias), d_b, static_cast<double>(s.batch),
                    DataType::kF32, kSumSlack, "d_b");
      }
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<Product, DataType>>& info) {
  const Product& s = std::get<0>(info.param);
  return absl::StrCat(s.batch, "x", s.in, "_to", s.out, NameOf(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(Shapes,
                         InnerProductTest,
                         ::testing::Combine(::testing::Values(Product{5, 13, 7},
                                                              Product{33, 100, 10},
                                                              Product{64, 128, 96},
                                                              Product{1, 1, 1}),
                                            ::testing::Values(DataType::kF32, DataType::kBf16)),
                         ParamName);

}  // namespace
}  // namespace normlab::engine
