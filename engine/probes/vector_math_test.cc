#include "engine/probes/vector_math.h"

#include <omp.h>

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

std::vector<float> Wave(size_t count, double phase) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(std::sin(static_cast<double>(i) * 0.37 + phase));
  }
  return values;
}

TEST(VectorMathTest, AgreesWithPlainLoopsAtOddSizes) {
  for (const size_t count : {1U, 7U, 4099U, 200003U}) {
    const std::vector<float> a = Wave(count, 0.1);
    const std::vector<float> b = Wave(count, 1.3);
    double dot = 0;
    double distance = 0;
    for (size_t i = 0; i < count; ++i) {
      dot += static_cast<double>(a[i]) * b[i];
      distance += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    }
    const double tolerance = 1e-12 * static_cast<double>(count);
    EXPECT_NEAR(Dot(a, b), dot, tolerance) << count;
    EXPECT_NEAR(SquaredDistance(a, b), distance, tolerance) << count;
    std::vector<float> sum(count);
    AddScaled(a, -0.25, b, absl::MakeSpan(sum));
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(sum[i], static_cast<float>(a[i] - 0.25 * b[i]));
    }
  }
}

TEST(VectorMathTest, ThreadsChangeNoBit) {
  const std::vector<float> a = Wave(300001, 0.7);
  omp_set_num_threads(1);
  const double one = SquaredNorm(a);
  omp_set_num_threads(3);
  EXPECT_EQ(SquaredNorm(a), one);
}

}  // namespace
}  // namespace normlab::engine
