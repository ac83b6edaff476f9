#include "engine/layers/reference_normalizers.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/random.h"

namespace normlab::engine::reference {
namespace {

double At(const Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
double& At(Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
double AtOr(const Tensor& tensor, int64_t index, double otherwise) {
  return tensor.empty() ? otherwise : At(tensor, index);
}
double Sign(double value) {
  return value > 0 ? 1 : value < 0 ? -1 : 0;
}
int64_t ChannelOf(const NormShape& shape, int64_t index) {
  return index / shape.area % shape.channels;
}

double MeanOf(const Set& set, const Tensor& x) {
  double sum = 0;
  for (const int64_t i : set) {
    sum += At(x, i);
  }
  return sum / static_cast<double>(set.size());
}

// Without epsilon: the biased variance, else the divisor itself.
double Magnitude(Divisor divisor, const Set& set, const Tensor& x) {
  const double mean = MeanOf(set, x);
  double sum = 0;
  double largest = 0;
  for (const int64_t i : set) {
    const double v = At(x, i);
    largest = std::max(largest, std::abs(v));
    sum += divisor == Divisor::kDeviation        ? (v - mean) * (v - mean)
           : divisor == Divisor::kRootMeanSquare ? v * v
                                                 : std::abs(v);
  }
  sum /= static_cast<double>(set.size());
  switch (divisor) {
    case Divisor::kOne:
      return 1;
    case Divisor::kDeviation:
    case Divisor::kMeanAbsolute:
      return sum;
    case Divisor::kRootMeanSquare:
      return std::sqrt(sum);
    case Divisor::kMaximumAbsolute:
      return largest;
  }
  return 1;
}

double DivisorOf(Divisor divisor, double magnitude, double epsilon) {
  switch (divisor) {
    case Divisor::kOne:
      return 1;
    case Divisor::kDeviation:
      return std::sqrt(magnitude + epsilon);
    case Divisor::kRootMeanSquare:
      return std::sqrt(magnitude * magnitude + epsilon);
    case Divisor::kMeanAbsolute:
    case Divisor::kMaximumAbsolute:
      return magnitude + epsilon;
  }
  return 1;
}

struct Center {
  double mean, s;
};

Center CenterOf(const SetNormalizer& n, const Set& set, const Tensor& x) {
  if (n.given.has_value()) {
    const int64_t c = ChannelOf(n.shape, set[0]);
    return {n.centred ? At(n.given->mean, c) : 0,
            DivisorOf(n.divisor, AtOr(n.given->var, c, 1), n.epsilon)};
  }
  return {n.centred ? MeanOf(set, x) : 0,
          DivisorOf(n.divisor, Magnitude(n.divisor, set, x), n.epsilon)};
}

Renorm RenormAt(const SetNormalizer& n, size_t set) {
  return n.renorm.empty() ? Renorm{} : n.renorm[set];
}

}  // namespace

std::vector<Set> BatchSets(const NormShape& s, int64_t examples_per_set) {
  std::vector<Set> sets;
  for (int64_t first = 0; first < s.batch; first += examples_per_set) {
    for (int64_t c = 0; c < s.channels; ++c) {
      Set set;
      for (int64_t n = first; n < first + examples_per_set; ++n) {
        for (int64_t a = 0; a < s.area; ++a) {
          set.push_back(s.at(n, c, a));
        }
      }
      sets.push_back(set);
    }
  }
  return sets;
}

std::vector<Set> GroupSets(const NormShape& s, int64_t groups) {
  std::vector<Set> sets;
  const int64_t size = s.channels / groups;
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      Set set;
      for (int64_t c = g * size; c < (g + 1) * size; ++c) {
        for (int64_t a = 0; a < s.area; ++a) {
          set.push_back(s.at(n, c, a));
        }
      }
      sets.push_back(set);
    }
  }
  return sets;
}

Tensor Forward(const SetNormalizer& n, const Tensor& x) {
  Tensor y(x.size());
  for (size_t k = 0; k < n.sets.size(); ++k) {
    const Center center = CenterOf(n, n.sets[k], x);
    const Renorm renorm = RenormAt(n, k);
    for (const int64_t i : n.sets[k]) {
      const int64_t c = ChannelOf(n.shape, i);
      const double xh = (At(x, i) - center.mean) / center.s * renorm.r + renorm.d;
      const double z = AtOr(n.gamma, c, 1) * xh + AtOr(n.beta, c, 0);
      At(y, i) = n.tau.empty() ? z : std::max(z, At(n.tau, c));
    }
  }
  return y;
}

NormalizerGradients Backward(const SetNormalizer& n, const Tensor& x, const Tensor& d_y) {
  const auto channels = static_cast<size_t>(n.shape.channels);
  NormalizerGradients d = {Tensor(x.size()), Tensor(channels), Tensor(channels), Tensor(channels)};
  const Tensor y = Forward(n, x);
  for (size_t k = 0; k < n.sets.size(); ++k) {
    const Set& set = n.sets[k];
    const auto m = static_cast<double>(set.size());
    const Center center = CenterOf(n, set, x);
    const Renorm renorm = RenormAt(n, k);
    double d_mean = 0;
    double d_s = 0;
    int64_t largest = set[0];
    for (const int64_t i : set) {
      const int64_t c = ChannelOf(n.shape, i);
      const bool cut = !n.tau.empty() && At(y, i) <= At(n.tau, c);
      const double g = cut ? 0 : At(d_y, i);
      const double quotient = (At(x, i) - center.mean) / center.s;
      At(d.d_gamma, c) += g * (quotient * renorm.r + renorm.d);
      At(d.d_beta, c) += g;
      At(d.d_tau, c) += At(d_y, i) - g;
      const double d_quotient = g * AtOr(n.gamma, c, 1) * renorm.r;
      At(d.d_x, i) = d_quotient / center.s;
      d_mean -= d_quotient / center.s;
      d_s -= d_quotient * quotient / center.s;
      largest = std::abs(At(x, i)) > std::abs(At(x, largest)) ? i : largest;
    }
    if (n.given.has_value()) {
      continue;
    }
    const double mean = MeanOf(set, x);
    for (const int64_t i : set) {
      At(d.d_x, i) += n.centred ? d_mean / m : 0;
      switch (n.divisor) {
        case Divisor::kOne:
          break;
        case Divisor::kDeviation:
          At(d.d_x, i) += d_s * (At(x, i) - mean) / (m * center.s);
          break;
        case Divisor::kRootMeanSquare:
          At(d.d_x, i) += d_s * At(x, i) / (m * center.s);
          break;
        case Divisor::kMeanAbsolute:
          At(d.d_x, i) += d_s * Sign(At(x, i)) / m;
          break;
        case Divisor::kMaximumAbsolute:
          At(d.d_x, i) += i == largest ? d_s * Sign(At(x, i)) : 0;
          break;
      }
    }
  }
  return d;
}

std::vector<Renorm> RenormOf(const SetNormalizer& n,
                             const Tensor& x,
                             const Statistics& running,
                             double r_max,
                             double d_max) {
  std::vector<Renorm> result;
  for (const Set& set : n.sets) {
    const int64_t c = ChannelOf(n.shape, set[0]);
    const Center batch = CenterOf(n, set, x);
    const double s_running = DivisorOf(n.divisor, At(running.var, c), n.epsilon);
    result.push_back(
        {std::min(std::max(batch.s / s_running, 1 / r_max), r_max),
         std::min(std::max((batch.mean - At(running.mean, c)) / s_running, -d_max), d_max)});
  }
  return result;
}

Statistics UpdatedRunning(const SetNormalizer& n,
                          const Tensor& x,
                          double rate,
                          const Statistics& running) {
  const auto channels = static_cast<size_t>(n.shape.channels);
  Statistics batch = {Tensor(channels), Tensor(channels)};
  const double parts = static_cast<double>(n.sets.size()) / static_cast<double>(channels);
  for (const Set& set : n.sets) {
    const auto m = static_cast<double>(set.size());
    const int64_t c = ChannelOf(n.shape, set[0]);
    const double magnitude = Magnitude(n.divisor, set, x);
    At(batch.mean, c) += MeanOf(set, x) / parts;
    At(batch.var, c) +=
        (n.divisor == Divisor::kDeviation ? magnitude * m / (m - 1) : magnitude) / parts;
  }
  Statistics updated = running;
  for (size_t c = 0; c < channels; ++c) {
    updated.mean[c] += rate * (batch.mean[c] - running.mean[c]);
    updated.var[c] += rate * (batch.var[c] - running.var[c]);
  }
  return updated;
}

Tensor DynamicTanhForward(
    const NormShape& s, double alpha, const Tensor& gamma, const Tensor& beta, const Tensor& x) {
  Tensor y(x.size());
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    const int64_t c = ChannelOf(s, i);
    At(y, i) = AtOr(gamma, c, 1) * std::tanh(alpha * At(x, i)) + AtOr(beta, c, 0);
  }
  return y;
}

DynamicTanhGradients DynamicTanhBackward(
    const NormShape& s, double alpha, const Tensor& gamma, const Tensor& x, const Tensor& d_y) {
  const auto channels = static_cast<size_t>(s.channels);
  DynamicTanhGradients d = {Tensor(x.size()), Tensor(channels), Tensor(channels)};
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    const int64_t c = ChannelOf(s, i);
    const double slope = std::pow(std::cosh(alpha * At(x, i)), -2) * AtOr(gamma, c, 1);
    At(d.d_gamma, c) += At(d_y, i) * std::tanh(alpha * At(x, i));
    At(d.d_beta, c) += At(d_y, i);
    At(d.d_x, i) = At(d_y, i) * slope * alpha;
    d.d_alpha += At(d_y, i) * slope * At(x, i);
  }
  return d;
}

Tensor WeightNormForward(int64_t outputs, const Tensor& v, const Tensor& g) {
  const int64_t fan_in = static_cast<int64_t>(v.size()) / outputs;
  Tensor w(v.size());
  for (int64_t o = 0; o < outputs; ++o) {
    double squares = 0;
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      squares += At(v, i) * At(v, i);
    }
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      At(w, i) = At(g, o) * At(v, i) / std::sqrt(squares);
    }
  }
  return w;
}

WeightNormGradients WeightNormBackward(int64_t outputs,
                                       const Tensor& v,
                                       const Tensor& g,
                                       const Tensor& d_w) {
  const int64_t fan_in = static_cast<int64_t>(v.size()) / outputs;
  WeightNormGradients d = {Tensor(v.size()), Tensor(g.size())};
  for (int64_t o = 0; o < outputs; ++o) {
    double norm = 0;
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      norm += At(v, i) * At(v, i);
    }
    norm = std::sqrt(norm);
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      At(d.d_g, o) += At(d_w, i) * At(v, i) / norm;
    }
    // (g/|v|) (I - v v^T/|v|^2) d_w, entry by entry.
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      for (int64_t j = o * fan_in; j < (o + 1) * fan_in; ++j) {
        const double projection = (i == j ? 1 : 0) - At(v, i) * At(v, j) / (norm * norm);
        At(d.d_v, i) += At(g, o) / norm * projection * At(d_w, j);
      }
    }
  }
  return d;
}

Tensor WeightStandardizationForward(int64_t outputs, const Tensor& v) {
  const int64_t fan_in = static_cast<int64_t>(v.size()) / outputs;
  Tensor w(v.size());
  for (int64_t o = 0; o < outputs; ++o) {
    Set row;
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      row.push_back(i);
    }
    const auto k = static_cast<double>(fan_in);
    const double mean = MeanOf(row, v);
    const double var = Magnitude(Divisor::kDeviation, row, v) * k / (k - 1);
    for (const int64_t i : row) {
      At(w, i) = (At(v, i) - mean) / (std::sqrt(var) + 1e-5);
    }
  }
  return w;
}

Tensor WeightStandardizationBackward(int64_t outputs, const Tensor& v, const Tensor& d_w) {
  const int64_t fan_in = static_cast<int64_t>(v.size()) / outputs;
  const auto k = static_cast<double>(fan_in);
  Tensor d_v(v.size());
  for (int64_t o = 0; o < outputs; ++o) {
    Set row;
    for (int64_t i = o * fan_in; i < (o + 1) * fan_in; ++i) {
      row.push_back(i);
    }
    const double mean = MeanOf(row, v);
    const double std = std::sqrt(Magnitude(Divisor::kDeviation, row, v) * k / (k - 1));
    const double s = std + 1e-5;
    double d_mean = 0;
    double d_s = 0;
    for (const int64_t i : row) {
      d_mean -= At(d_w, i) / s;
      d_s -= At(d_w, i) * (At(v, i) - mean) / (s * s);
    }
    for (const int64_t i : row) {
      At(d_v, i) = At(d_w, i) / s + d_mean / k + d_s * (At(v, i) - mean) / (std * (k - 1));
    }
  }
  return d_v;
}

Noise DrawNoise(uint32_t seed,
                absl::string_view layer,
                uint64_t step,
                const NormShape& s,
                const NoiseOptions& options) {
  const common::RandomStream channels(seed, absl::StrCat("noise/", layer, "/channels"));
  const common::RandomStream values(seed, absl::StrCat("noise/", layer));
  const auto count = static_cast<size_t>(s.batch * s.channels * s.area);
  Noise noise = {Tensor(count), Tensor(count)};
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t c = 0; c < s.channels; ++c) {
      const auto channel = static_cast<uint64_t>(c);
      const double mu = options.mean_range * (2 * channels.Uniform(step, 2 * channel) - 1);
      const double sigma =
          1 + (options.deviation_range - 1) * channels.Uniform(step, 2 * channel + 1);
      for (int64_t a = 0; a < s.area; ++a) {
        const auto bits =
            values.Bits(step, static_cast<uint64_t>((n / 2 * s.channels + c) * s.area + a));
        const double radius = std::sqrt(-2 * std::log((bits[0] / 2 + 0.5) * 0x1.0p-31));
        const double angle = 2 * std::numbers::pi * bits[1] * 0x1.0p-32;
        const double normal = radius * (n % 2 == 0 ? std::cos(angle) : std::sin(angle));
        const double uniform = (n % 2 == 0 ? bits[2] : bits[3]) * 0x1.0p-32;
        At(noise.scale, s.at(n, c, a)) = sigma + options.deviation_jitter * normal;
        At(noise.shift, s.at(n, c, a)) = mu + options.mean_jitter * (2 * uniform - 1);
      }
    }
  }
  return noise;
}

}  // namespace normlab::engine::reference
