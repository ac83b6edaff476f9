#include "engine/init/initializer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/random.h"

namespace normlab::engine {
namespace {

// How the values of one tensor are drawn.
struct Distribution {
  enum class Kind { kNormal, kUniform } kind = Kind::kUniform;
  // Standard deviation of a normal, half the width of a uniform distribution.
  double size = 0;
};

// A uniform distribution on [-a, a] has variance a*a/3.
Distribution WithVariance(Distribution::Kind kind, double variance) {
  return {kind, std::sqrt(kind == Distribution::Kind::kUniform ? 3 * variance : variance)};
}

Distribution WeightDistribution(const v1::Initializer& initializer, const ParameterSpec& weight) {
  const auto fan_in = static_cast<double>(weight.fan_in);
  const auto fan_sum = static_cast<double>(weight.fan_in + weight.fan_out);
  switch (initializer.kind_case()) {
    case v1::Initializer::kHeNormal:
      return WithVariance(Distribution::Kind::kNormal, 2 / fan_in);
    case v1::Initializer::kHeUniform:
      return WithVariance(Distribution::Kind::kUniform, 2 / fan_in);
    case v1::Initializer::kGlorotNormal:
      return WithVariance(Distribution::Kind::kNormal, 2 / fan_sum);
    case v1::Initializer::kGlorotUniform:
      return WithVariance(Distribution::Kind::kUniform, 2 / fan_sum);
    default:  // pytorch_default; a resolved spec has no other
      return {Distribution::Kind::kUniform, 1 / std::sqrt(fan_in)};
  }
}

void Draw(const Distribution& distribution,
          double scale,
          const common::RandomStream& random,
          absl::Span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const double unit = distribution.kind == Distribution::Kind::kNormal
                            ? random.Normal(0, i)
                            : 2 * random.Uniform(0, i) - 1;
    values[i] = static_cast<float>(scale * distribution.size * unit);
  }
}

}  // namespace

void InitializeParameters(const v1::JobSpec& resolved,
                          const Graph& graph,
                          absl::Span<float> parameters) {
  const v1::Initializer& initializer = resolved.initializer();
  for (const ParameterSpec& parameter : graph.parameters()) {
    const auto values = parameters.subspan(static_cast<size_t>(parameter.offset),
                                           static_cast<size_t>(parameter.count));
    const common::RandomStream random(resolved.seed(), absl::StrCat("init/", parameter.name));
    switch (parameter.role) {
      case ParameterRole::kWeight:
        Draw(WeightDistribution(initializer, parameter), initializer.scale(), random, values);
        break;
      case ParameterRole::kBias:
        // A bias carries the fan_in of its weight layer.
        if (initializer.has_pytorch_default()) {
          Draw(WeightDistribution(initializer, parameter), 1.0, random, values);
        } else {
          std::fill(values.begin(), values.end(), 0.0F);
        }
        break;
      case ParameterRole::kGamma:
        std::fill(values.begin(), values.end(), 1.0F);
        break;
      default:
        std::fill(values.begin(), values.end(), 0.0F);
    }
  }
}

}  // namespace normlab::engine
