#include "engine/init/initializer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kShape = {.channels = 3,
                                 .height = 8,
                                 .width = 6,
                                 .classes = 7,
                                 .train_examples = 10,
                                 .test_examples = 10};
constexpr char kModel[] =
    "model { cnn { blocks { channels: 40 kernel: 5 } hidden: 30 } } data { mnist {} } ";

struct Initialized {
  Graph graph;
  std::vector<float> values;

  const ParameterSpec& Spec(const std::string& name) const {
    for (const ParameterSpec& parameter : graph.parameters()) {
      if (parameter.name == name) {
        return parameter;
      }
    }
    ADD_FAILURE() << "no parameter " << name;
    return graph.parameters()[0];
  }
  std::vector<float> Get(const std::string& name) const {
    const ParameterSpec& spec = Spec(name);
    return {values.begin() + spec.offset, values.begin() + spec.offset + spec.count};
  }
};

Initialized Initialize(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kModel + text, &spec));
  spec = Resolve(spec);
  Initialized result{*BuildGraph(spec, kShape).graph, {}};
  result.values.assign(result.graph.parameter_floats(), 0.0F);
  InitializeParameters(spec, result.graph, absl::MakeSpan(result.values));
  return result;
}

struct Moments {
  double mean = 0;
  double variance = 0;
  double largest = 0;
};

Moments Measure(const std::vector<float>& values) {
  Moments moments;
  for (const float value : values) {
    moments.mean += value / static_cast<double>(values.size());
    moments.largest = std::max(moments.largest, std::abs(static_cast<double>(value)));
  }
  for (const float value : values) {
    moments.variance += (value - moments.mean) * (value - moments.mean);
  }
  moments.variance /= static_cast<double>(values.size());
  return moments;
}

// conv1.weight: [40, 3, 5, 5], 3000 values, fan_in 75, fan_out 1000; fc1.weight: [30, 1920], 57,600
// values.
void ExpectVariance(const Initialized& model, const std::string& name, double variance) {
  const std::vector<float> values = model.Get(name);
  const Moments moments = Measure(values);
  const auto n = static_cast<double>(values.size());
  // Five standard errors: of the mean sqrt(v/n), of the variance at most sqrt(2/n)*v.
  EXPECT_NEAR(moments.mean, 0, 5 * std::sqrt(variance / n)) << name;
  EXPECT_NEAR(moments.variance, variance, 5 * std::sqrt(2 / n) * variance) << name;
}

TEST(InitializerTest, PytorchDefaultIsUniformInWeightsAndBiases) {
  const Initialized model = Initialize("");
  ExpectVariance(model, "conv1.weight", 1.0 / 75 / 3);
  ExpectVariance(model, "fc1.weight", 1.0 / 1920 / 3);
  for (const auto& [name, fan_in] : {std::pair{"conv1.weight", 75.0}, std::pair{"conv1.bias", 75.0},
                                     std::pair{"fc1.bias", 1920.0}, std::pair{"head.bias", 30.0}}) {
    const double bound = 1 / std::sqrt(fan_in);
    const Moments moments = Measure(model.Get(name));
    EXPECT_LE(moments.largest, bound * (1 + 1e-6)) << name;
    EXPECT_GT(moments.largest, bound * 0.6) << name;
    EXPECT_GT(moments.variance, 0) << name;
  }
}

TEST(InitializerTest, HeAndGlorotHaveTheirVariancesAndNoBias) {
  for (const auto& [kind, conv, fc] : {std::tuple{"he_normal", 2.0 / 75, 2.0 / 1920},
                                       std::tuple{"he_uniform", 2.0 / 75, 2.0 / 1920},
                                       std::tuple{"glorot_normal", 2.0 / 1075, 2.0 / 1950},
                                       std::tuple{"glorot_uniform", 2.0 / 1075, 2.0 / 1950}}) {
    const Initialized model = Initialize(std::string("initializer { ") + kind + " {} }");
    SCOPED_TRACE(kind);
    ExpectVariance(model, "conv1.weight", conv);
    ExpectVariance(model, "fc1.weight", fc);
    EXPECT_EQ(Measure(model.Get("fc1.bias")).largest, 0);
    const bool uniform = std::string(kind).find("uniform") != std::string::npos;
    const double largest = Measure(model.Get("fc1.weight")).largest / std::sqrt(fc);
    // A uniform distribution ends at sqrt(3) deviations; 57,600 normal values reach beyond 3.5.
    EXPECT_EQ(largest < std::sqrt(3.0) * (1 + 1e-6), uniform);
    EXPECT_EQ(largest > 3.5, !uniform);
  }
}

TEST(InitializerTest, ScaleMultipliesWeightsOnly) {
  const Initialized plain = Initialize("");
  const Initialized scaled = Initialize("initializer { scale: 4 }");
  const auto weights = plain.Get("fc1.weight");
  const auto scaled_weights = scaled.Get("fc1.weight");
  for (size_t i = 0; i < weights.size(); ++i) {
    ASSERT_EQ(scaled_weights[i], 4 * weights[i]);
  }
  EXPECT_EQ(scaled.Get("fc1.bias"), plain.Get("fc1.bias"));
}

TEST(InitializerTest, ScaleCanLeaveTheLastLayerAlone) {
  const Initialized plain = Initialize("");
  const Initialized scaled = Initialize("initializer { scale: 4 scale_hidden_only: true }");
  for (const char* name : {"conv1.weight", "fc1.weight"}) {
    const auto weights = plain.Get(name);
    const auto scaled_weights = scaled.Get(name);
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_EQ(scaled_weights[i], 4 * weights[i]) << name;
    }
  }
  EXPECT_EQ(scaled.Get("head.weight"), plain.Get("head.weight"));
}

TEST(InitializerTest, GammaIsOneBetaZeroAndGapsStayZero) {
  const Initialized model = Initialize("normalization { batch {} } initializer { scale: 3 }");
  EXPECT_EQ(model.Get("bn1.weight"), std::vector<float>(40, 1.0F));
  EXPECT_EQ(model.Get("bn1.bias"), std::vector<float>(40, 0.0F));
  std::vector<bool> used(model.values.size());
  for (const ParameterSpec& parameter : model.graph.parameters()) {
    std::fill_n(used.begin() + parameter.offset, parameter.count, true);
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) {
      ASSERT_EQ(model.values[i], 0.0F);
    }
  }
}

TEST(InitializerTest, DependsOnTheSeedAndOnTheTensorsNameAlone) {
  EXPECT_EQ(Initialize("seed: 5").values, Initialize("seed: 5").values);
  EXPECT_NE(Initialize("seed: 5").values, Initialize("seed: 6").values);
  // Another normalizer adds and removes other tensors; the head's weights stay.
  EXPECT_EQ(Initialize("seed: 5").Get("head.weight"),
            Initialize("seed: 5 normalization { batch {} }").Get("head.weight"));
}

}  // namespace
}  // namespace normlab::engine
