#include "engine/probes/weight_parts.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "engine/graph/graph.h"

namespace normlab::engine {
namespace {

TEST(WeightPartsTest, EveryNumberCountsOnceAndWeightsApart) {
  Graph graph({5});
  ASSERT_TRUE(graph.Add("fc1", LinearNode{7, true}).ok());
  ASSERT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  ASSERT_TRUE(graph.Add("fc2", LinearNode{3, true}).ok());
  ASSERT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  std::vector<float> a(static_cast<size_t>(graph.parameter_floats()));
  std::vector<float> b(a.size());
  double all = 0;
  double weights = 0;
  double all_distance = 0;
  double weights_distance = 0;
  for (const ParameterSpec& spec : graph.parameters()) {
    for (int64_t i = 0; i < spec.count; ++i) {
      const auto at = static_cast<size_t>(spec.offset + i);
      a[at] = static_cast<float>(std::sin(static_cast<double>(at)));
      b[at] = static_cast<float>(std::cos(static_cast<double>(2 * at)));
      const double square = static_cast<double>(a[at]) * a[at];
      const double distance = (static_cast<double>(a[at]) - b[at]) * (double{a[at]} - b[at]);
      all += square;
      all_distance += distance;
      weights += spec.role == ParameterRole::kWeight ? square : 0;
      weights_distance += spec.role == ParameterRole::kWeight ? distance : 0;
    }
  }
  ASSERT_GT(weights, 0);
  ASSERT_GT(all, weights);
  const WeightParts parts(graph);
  const double tolerance = 1e-12 * all;  // another order of the same sum in double
  EXPECT_NEAR(parts.SquaredNorm(a).all, all, tolerance);
  EXPECT_NEAR(parts.SquaredNorm(a).weights, weights, tolerance);
  EXPECT_NEAR(parts.SquaredDistance(a, b).all, all_distance, 4 * tolerance);
  EXPECT_NEAR(parts.SquaredDistance(a, b).weights, weights_distance, 4 * tolerance);
}

}  // namespace
}  // namespace normlab::engine
