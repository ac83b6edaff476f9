// The distributions that the first initializers lack, orthogonal matrices, and what a ParameterSpec
// says of its own.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "engine/graph/graph.h"
#include "engine/init/initializer.h"
#include "engine/init/orthogonal.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

// fc.weight [150, 120]: 18,000 values; head.weight [7, 150].
Graph MakeGraph() {
  Graph graph({120});
  EXPECT_TRUE(graph.Add("fc", LinearNode{.out = 150}).ok());
  EXPECT_TRUE(graph.Add("bn", BatchNormNode{}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{.out = 7}).ok());
  return graph;
}

std::vector<float> Initialize(const std::string& initializer, const Graph& graph) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { mlp {} } data { mnist {} } seed: 3 initializer { " + initializer + " }", &spec))
      << initializer;
  EXPECT_TRUE(Validate(spec).empty()) << initializer;
  std::vector<float> values(static_cast<size_t>(graph.parameter_floats()));
  InitializeParameters(Resolve(spec), graph, absl::MakeSpan(values));
  return values;
}

std::vector<float> Of(const Graph& graph, const std::vector<float>& values, const char* name) {
  for (const ParameterSpec& spec : graph.parameters()) {
    if (spec.name == name) {
      return {values.begin() + spec.offset, values.begin() + spec.offset + spec.count};
    }
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

double Variance(const std::vector<float>& values) {
  double mean = 0;
  for (const float value : values) {
    mean += value / static_cast<double>(values.size());
  }
  double variance = 0;
  for (const float value : values) {
    variance += (value - mean) * (value - mean) / static_cast<double>(values.size());
  }
  return variance;
}

double Largest(const std::vector<float>& values) {
  double largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  return largest;
}

TEST(InitializerKindsTest, NormalsHaveTheirVariances) {
  const Graph graph = MakeGraph();
  for (const auto& [text, variance] :
       {std::pair{"lecun_normal {}", 1.0 / 120}, std::pair{"fan_in_normal {}", 1.0 / 120},
        std::pair{"fan_in_normal { gain: 3 }", 9.0 / 120}, std::pair{"normal {}", 1e-4},
        std::pair{"normal { std: 0.5 }", 0.25}, std::pair{"normal { std: 0.5 } scale: 4", 4.0}}) {
    const std::vector<float> values = Initialize(text, graph);
    const std::vector<float> weight = Of(graph, values, "fc.weight");
    // Five standard errors of the variance of so many normal numbers.
    const double error = 5 * std::sqrt(2.0 / static_cast<double>(weight.size())) * variance;
    EXPECT_NEAR(Variance(weight), variance, error) << text;
    // A uniform distribution would end at 1.73 deviations.
    EXPECT_GT(Largest(weight), 3.3 * std::sqrt(variance)) << text;
    EXPECT_EQ(Largest(Of(graph, values, "fc.bias")), 0) << text;
    EXPECT_EQ(Of(graph, values, "bn.weight"), std::vector<float>(150, 1.0F)) << text;
  }
}

TEST(InitializerKindsTest, GainAndStdOfZeroMeanZero) {
  const Graph graph = MakeGraph();
  EXPECT_EQ(Largest(Of(graph, Initialize("normal { std: 0 }", graph), "fc.weight")), 0);
  EXPECT_EQ(Largest(Of(graph, Initialize("fan_in_normal { gain: 0 }", graph), "fc.weight")), 0);
}

// The largest difference of M M^T (or M^T M, the smaller) from scale^2 times the identity.
double DistanceFromOrthogonal(const std::vector<float>& m,
                              int64_t rows,
                              int64_t columns,
                              double scale) {
  const int64_t small = std::min(rows, columns);
  const int64_t large = std::max(rows, columns);
  const auto at = [&](int64_t vector, int64_t i) {
    return static_cast<double>(
        m[static_cast<size_t>(rows <= columns ? vector * columns + i : i * columns + vector)]);
  };
  double distance = 0;
  for (int64_t a = 0; a < small; ++a) {
    for (int64_t b = a; b < small; ++b) {
      double dot = 0;
      for (int64_t i = 0; i < large; ++i) {
        dot += at(a, i) * at(b, i);
      }
      distance = std::max(distance, std::abs(dot - (a == b ? scale * scale : 0)));
    }
  }
  return distance;
}

TEST(OrthogonalTest, TheShorterSideIsOrthonormal) {
  const common::RandomStream random(7, "orthogonal");
  for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{{1, 1},
                                                                              {1, 9},
                                                                              {9, 1},
                                                                              {2, 3},
                                                                              {5, 5},
                                                                              {13, 31},
                                                                              {31, 13},
                                                                              {64, 64},
                                                                              {150, 120},
                                                                              {101, 333}}) {
    for (const double scale : {1.0, 0.25}) {
      std::vector<float> values(static_cast<size_t>(rows * columns));
      FillOrthogonal(random, rows, columns, scale, absl::MakeSpan(values));
      // Every value is rounded to float once.
      EXPECT_LT(DistanceFromOrthogonal(values, rows, columns, scale), 1e-6)
          << rows << "x" << columns;
    }
  }
}

// Uniform among rotations: without keeping the directions (a QR whose R has any signs) the first
// value would have one sign for ever.
TEST(OrthogonalTest, DirectionsAreKept) {
  int positive = 0;
  constexpr int kDraws = 400;
  double mean_square = 0;
  for (int seed = 0; seed < kDraws; ++seed) {
    std::vector<float> values(9);
    FillOrthogonal(common::RandomStream(seed, "o"), 3, 3, 1, absl::MakeSpan(values));
    positive += values[0] > 0 ? 1 : 0;
    mean_square += values[0] * values[0] / kDraws;
  }
  EXPECT_NEAR(positive, kDraws / 2, 5 * std::sqrt(kDraws / 4.0));
  // A component of a random unit vector in 3 dimensions: mean square 1/3, whose standard deviation
  // is sqrt(4/45).
  EXPECT_NEAR(mean_square, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(OrthogonalTest, TheSameBitsForEveryNumberOfThreads) {
  const int threads_before = omp_get_max_threads();
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    results.emplace_back(203 * 301);
    FillOrthogonal(common::RandomStream(1, "o"), 203, 301, 1, absl::MakeSpan(results.back()));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  omp_set_num_threads(threads_before);
}

TEST(InitializerKindsTest, OrthogonalTakesWeightsAsAMatrixAndLeavesBiasesZero) {
  Graph graph({5, 9, 9});
  ASSERT_TRUE(graph.Add("conv", ConvNode{.out_channels = 13, .kernel = 3}).ok());
  const std::vector<float> values = Initialize("orthogonal {} scale: 2", graph);
  EXPECT_LT(DistanceFromOrthogonal(Of(graph, values, "conv.weight"), 13, 45, 2), 5e-6);
  EXPECT_EQ(Largest(Of(graph, values, "conv.bias")), 0);
}

// Tensors one after the other, as a graph lays them out.
class Tensors {
 public:
  ParameterSpec& Add(const char* name, ParameterRole role, Dims dims) {
    ParameterSpec spec;
    spec.name = name;
    spec.role = role;
    spec.count = ElementCount(dims);
    spec.fan_in = dims.size() > 1 ? dims[1] : 50;
    spec.fan_out = dims[0];
    spec.dims = std::move(dims);
    spec.offset = floats_;
    floats_ += spec.count;
    specs_.push_back(spec);
    return specs_.back();
  }

  std::vector<std::vector<float>> Initialize(const std::string& initializer) const {
    v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "seed: 3 initializer { " + initializer + " }", &spec));
    std::vector<float> arena(static_cast<size_t>(floats_));
    InitializeTensors(Resolve(spec), specs_, absl::MakeSpan(arena));
    std::vector<std::vector<float>> values;
    for (const ParameterSpec& each : specs_) {
      values.emplace_back(arena.begin() + each.offset, arena.begin() + each.offset + each.count);
    }
    return values;
  }

 private:
  std::vector<ParameterSpec> specs_;
  int64_t floats_ = 0;
};

TEST(InitializeTensorsTest, RolesHaveTheirOwnStart) {
  Tensors tensors;
  tensors.Add("n.weight", ParameterRole::kGamma, {3});
  tensors.Add("n.bias", ParameterRole::kBeta, {3});
  tensors.Add("n.tau", ParameterRole::kThreshold, {3});
  tensors.Add("n.alpha", ParameterRole::kAlpha, {1});
  tensors.Add("m.scale", ParameterRole::kScale, {1});
  const auto values = tensors.Initialize("he_normal {} scale: 7");
  EXPECT_EQ(values[0], std::vector<float>(3, 1.0F));
  EXPECT_EQ(values[1], std::vector<float>(3, 0.0F));
  EXPECT_EQ(values[2], std::vector<float>(3, 0.0F));
  EXPECT_EQ(values[3], std::vector<float>{0.5F});
  EXPECT_EQ(values[4], std::vector<float>{1.0F});
}

TEST(InitializeTensorsTest, AConstantWinsOverRoleAndInitializer) {
  for (const char* initializer : {"", "orthogonal {}", "normal {} scale: 3"}) {
    Tensors tensors;
    tensors.Add("n.weight", ParameterRole::kGamma, {3}).constant = 0.0F;
    tensors.Add("a.weight", ParameterRole::kWeight, {3, 5}).constant = 0.0F;
    tensors.Add("a.bias", ParameterRole::kBias, {3}).constant = 0.0F;
    tensors.Add("n.alpha", ParameterRole::kAlpha, {1}).constant = 0.75F;
    tensors.Add("g.weight_g", ParameterRole::kGain, {4}).constant = 2.5F;
    tensors.Add("g.weight_v", ParameterRole::kWeight, {4, 6});
    const auto values = tensors.Initialize(initializer);
    EXPECT_EQ(values[0], std::vector<float>(3, 0.0F));
    EXPECT_EQ(values[1], std::vector<float>(15, 0.0F));
    EXPECT_EQ(values[2], std::vector<float>(3, 0.0F));
    EXPECT_EQ(values[3], std::vector<float>{0.75F});
    EXPECT_EQ(values[4], std::vector<float>(4, 2.5F));
    EXPECT_GT(Largest(values[5]), 0);
  }
}

TEST(InitializeTensorsTest, AStdIsDrawnWhateverTheInitializerSays) {
  Tensors tensors;
  tensors.Add("g.weight_v", ParameterRole::kWeight, {150, 120}).std = 0.05;
  const std::vector<float> plain = tensors.Initialize("")[0];
  EXPECT_NEAR(Variance(plain), 0.0025, 5 * std::sqrt(2.0 / 18000) * 0.0025);
  EXPECT_GT(Largest(plain), 3.3 * 0.05);
  EXPECT_EQ(tensors.Initialize("orthogonal {} scale: 9")[0], plain);
}

TEST(InitializeTensorsTest, ATensorsScaleMultipliesWhatIsDrawnBesideTheInitializers) {
  for (const char* initializer :
       {"he_normal {} scale: 4", "orthogonal {} scale: 4", "pytorch_default {} scale: 4"}) {
    Tensors plain;
    plain.Add("a.weight", ParameterRole::kWeight, {5, 7});
    plain.Add("a.bias", ParameterRole::kBias, {5});
    Tensors scaled;
    scaled.Add("a.weight", ParameterRole::kWeight, {5, 7}).scale = 0.5;
    scaled.Add("a.bias", ParameterRole::kBias, {5}).scale = 0.5;
    const auto before = plain.Initialize(initializer);
    const auto after = scaled.Initialize(initializer);
    for (size_t t = 0; t < before.size(); ++t) {
      for (size_t i = 0; i < before[t].size(); ++i) {
        // Halving is exact.
        EXPECT_EQ(after[t][i], 0.5F * before[t][i]) << initializer;
      }
    }
    EXPECT_GT(Largest(before[0]), 0) << initializer;
  }
}

TEST(InitializeTensorsTest, AGainStartsAtTheNormOfItsUnitsWeights) {
  for (const bool gain_first : {false, true}) {
    Tensors tensors;
    if (gain_first) {
      tensors.Add("b.weight_g", ParameterRole::kGain, {3, 1});
    }
    tensors.Add("a.weight", ParameterRole::kWeight, {3, 5});  // another layer's
    tensors.Add("b.weight_v", ParameterRole::kWeight, {3, 7});
    if (!gain_first) {
      tensors.Add("b.weight_g", ParameterRole::kGain, {3, 1});
    }
    const auto values = tensors.Initialize("normal { std: 2 }");
    const std::vector<float>& v = values[gain_first ? 2 : 1];
    const std::vector<float>& g = values[gain_first ? 0 : 2];
    for (size_t unit = 0; unit < 3; ++unit) {
      double square = 0;
      for (size_t i = 0; i < 7; ++i) {
        square += static_cast<double>(v[unit * 7 + i]) * v[unit * 7 + i];
      }
      EXPECT_NEAR(g[unit], std::sqrt(square), 1e-6 * std::sqrt(square));
    }
  }
}

}  // namespace
}  // namespace normlab::engine
