#include <cmath>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;

// Of the sum of the absolute products: single precision, at most 130 terms.
constexpr double kSumSlack = 4e-6;

struct Sizes {
  int64_t count, rows, inner, columns;
};

class MatrixProductsTest : public ::testing::TestWithParam<std::tuple<Sizes, bool, bool>> {};

TEST_P(MatrixProductsTest, MatchTheLoops) {
  const auto& [s, transposed_a, transposed_b] = GetParam();
  const Values a = RandomValues(s.count * s.rows * s.inner, 1);
  const Values b = RandomValues(s.count * s.inner * s.columns, 2);
  // As the op sees them, whatever their order in memory: [rows,inner] and [inner,columns].
  Values c(static_cast<size_t>(s.count * s.rows * s.columns));
  Values magnitude(c.size());
  for (int64_t t = 0; t < s.count; ++t) {
    for (int64_t m = 0; m < s.rows; ++m) {
      for (int64_t n = 0; n < s.columns; ++n) {
        const auto at = static_cast<size_t>((t * s.rows + m) * s.columns + n);
        for (int64_t k = 0; k < s.inner; ++k) {
          const double term = a[static_cast<size_t>((t * s.rows + m) * s.inner + k)] *
                              b[static_cast<size_t>((t * s.inner + k) * s.columns + n)];
          c[at] += term;
          magnitude[at] += std::abs(term);
        }
      }
    }
  }
  const MatrixProducts products = {.count = s.count,
                                   .rows = s.rows,
                                   .inner = s.inner,
                                   .columns = s.columns,
                                   .transposed_a = transposed_a,
                                   .transposed_b = transposed_b};
  OpRunner runner(MakeMatrixProducts(TestRuntime(), products));
  EXPECT_EQ(runner.op().layout(Arg::kSource).bytes(), products.a().bytes());
  EXPECT_EQ(runner.op().layout(Arg::kWeights).bytes(), products.b().bytes());
  EXPECT_EQ(runner.op().layout(Arg::kDestination), products.c());
  EXPECT_EQ(runner.op().layout(Arg::kSource) == products.a(), !transposed_a || s.rows == s.inner);
  runner.Set(Arg::kSource, a);
  runner.Set(Arg::kWeights, b);
  runner.Run();
  ExpectClose(runner.Get(Arg::kDestination), c, magnitude, DataType::kF32, kSumSlack,
              absl::StrCat("c by ", runner.op().implementation()));
}

INSTANTIATE_TEST_SUITE_P(Sizes,
                         MatrixProductsTest,
                         ::testing::Combine(::testing::Values(Sizes{1, 5, 13, 7},
                                                              Sizes{9, 33, 48, 80},
                                                              Sizes{3, 64, 129, 31},
                                                              Sizes{2, 1, 17, 4}),
                                            ::testing::Bool(),
                                            ::testing::Bool()));

}  // namespace
}  // namespace normlab::engine
