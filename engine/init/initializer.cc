#include "engine/init/initializer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/random.h"
#include "engine/init/orthogonal.h"

namespace normlab::engine {
namespace {

constexpr float kInitialAlpha = 0.5F;

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

// Of every kind but orthogonal.
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
    case v1::Initializer::kLecunNormal:
      return WithVariance(Distribution::Kind::kNormal, 1 / fan_in);
    case v1::Initializer::kFanInNormal:
      return {Distribution::Kind::kNormal, initializer.fan_in_normal().gain() / std::sqrt(fan_in)};
    case v1::Initializer::kNormal:
      return {Distribution::Kind::kNormal, initializer.normal().std()};
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

void FillWeight(const v1::Initializer& initializer,
                const ParameterSpec& weight,
                bool is_last,
                const common::RandomStream& random,
                absl::Span<float> values) {
  const bool scaled = !(is_last && initializer.scale_hidden_only());
  const double scale = (scaled ? initializer.scale() : 1.0) * weight.scale;
  if (initializer.has_orthogonal()) {
    const int64_t rows = weight.dims.front();
    FillOrthogonal(random, rows, weight.count / rows, scale, values);
  } else {
    Draw(WeightDistribution(initializer, weight), scale, random, values);
  }
}

absl::string_view LayerOf(absl::string_view parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

absl::Span<float> ValuesOf(const ParameterSpec& parameter, absl::Span<float> arena) {
  return arena.subspan(static_cast<size_t>(parameter.offset), static_cast<size_t>(parameter.count));
}

void FillParameter(const v1::JobSpec& resolved,
                   const ParameterSpec& parameter,
                   bool is_last_weight,
                   absl::Span<float> values) {
  const v1::Initializer& initializer = resolved.initializer();
  const common::RandomStream random(resolved.seed(), absl::StrCat("init/", parameter.name));
  float constant = 0;
  if (parameter.constant.has_value()) {
    constant = *parameter.constant;
  } else if (parameter.std.has_value()) {
    Draw({Distribution::Kind::kNormal, *parameter.std}, parameter.scale, random, values);
    return;
  } else if (parameter.role == ParameterRole::kWeight) {
    FillWeight(initializer, parameter, is_last_weight, random, values);
    return;
  } else if (parameter.role == ParameterRole::kBias && initializer.has_pytorch_default()) {
    // A bias carries the fan_in of its weight layer.
    Draw(WeightDistribution(initializer, parameter), parameter.scale, random, values);
    return;
  } else if (parameter.role == ParameterRole::kGamma || parameter.role == ParameterRole::kScale) {
    constant = 1;
  } else if (parameter.role == ParameterRole::kAlpha) {
    constant = kInitialAlpha;
  }
  std::fill(values.begin(), values.end(), constant);
}

}  // namespace

void InitializeParameters(const v1::JobSpec& resolved,
                          const Graph& graph,
                          absl::Span<float> parameters) {
  InitializeTensors(resolved, graph.parameters(), parameters);
}

void SetGainToNorms(absl::Span<const ParameterSpec> tensors,
                    const ParameterSpec& gain,
                    absl::Span<float> parameters) {
  const absl::Span<float> values = ValuesOf(gain, parameters);
  std::fill(values.begin(), values.end(), 1.0F);
  for (const ParameterSpec& weight : tensors) {
    if (weight.role != ParameterRole::kWeight || LayerOf(weight.name) != LayerOf(gain.name) ||
        weight.dims.front() != gain.count) {
      continue;
    }
    const absl::Span<const float> v = ValuesOf(weight, parameters);
    const size_t length = v.size() / values.size();
    for (size_t unit = 0; unit < values.size(); ++unit) {
      double square = 0;
      for (const float value : v.subspan(unit * length, length)) {
        square += static_cast<double>(value) * value;
      }
      values[unit] = static_cast<float>(std::sqrt(square));
    }
  }
}

void InitializeTensors(const v1::JobSpec& resolved,
                       absl::Span<const ParameterSpec> tensors,
                       absl::Span<float> parameters) {
  const ParameterSpec* last_weight = nullptr;
  for (const ParameterSpec& parameter : tensors) {
    if (parameter.role == ParameterRole::kWeight) {
      last_weight = &parameter;
    }
  }
  for (const ParameterSpec& parameter : tensors) {
    FillParameter(resolved, parameter, &parameter == last_weight, ValuesOf(parameter, parameters));
  }
  // After all weights, whatever the order of a layer's tensors.
  for (const ParameterSpec& parameter : tensors) {
    if (parameter.role == ParameterRole::kGain && !parameter.constant.has_value() &&
        !parameter.std.has_value()) {
      SetGainToNorms(tensors, parameter, parameters);
    }
  }
}

}  // namespace normlab::engine
