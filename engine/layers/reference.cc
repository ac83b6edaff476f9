#include "engine/layers/reference.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace normlab::engine::reference {
namespace {

// Subscripts in the loops below are int64_t, as dimensions are.
double At(const Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
double& At(Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
Tensor Zeros(int64_t count) {
  return Tensor(static_cast<size_t>(count), 0.0);
}

// Calls visit(index into x, index into w, index into y) for every product in a convolution.
template <typename Visit>
void ForEachProduct(const ConvShape& s, const Visit& visit) {
  const ImageShape out = s.out();
  const int64_t in_group = s.in.channels / s.groups;
  const int64_t out_group = s.out_channels / s.groups;
  for (int64_t n = 0; n < out.batch; ++n) {
    for (int64_t o = 0; o < out.channels; ++o) {
      for (int64_t h = 0; h < out.height; ++h) {
        for (int64_t w = 0; w < out.width; ++w) {
          for (int64_t i = 0; i < in_group; ++i) {
            for (int64_t kh = 0; kh < s.kernel; ++kh) {
              for (int64_t kw = 0; kw < s.kernel; ++kw) {
                const int64_t row = h * s.stride + kh - s.padding;
                const int64_t column = w * s.stride + kw - s.padding;
                if (row < 0 || row >= s.in.height || column < 0 || column >= s.in.width) {
                  continue;
                }
                visit(s.in.at(n, o / out_group * in_group + i, row, column),
                      ((o * in_group + i) * s.kernel + kh) * s.kernel + kw, out.at(n, o, h, w));
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace

Tensor LinearForward(const LinearShape& s, const Tensor& x, const Tensor& w, const Tensor& b) {
  Tensor y = Zeros(s.batch * s.out);
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t o = 0; o < s.out; ++o) {
      double sum = b.empty() ? 0 : At(b, o);
      for (int64_t i = 0; i < s.in; ++i) {
        sum += At(x, n * s.in + i) * At(w, o * s.in + i);
      }
      At(y, n * s.out + o) = sum;
    }
  }
  return y;
}

WeightGradients LinearBackward(const LinearShape& s,
                               const Tensor& x,
                               const Tensor& w,
                               const Tensor& d_y) {
  WeightGradients d = {Zeros(s.batch * s.in), Zeros(s.out * s.in), Zeros(s.out)};
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t o = 0; o < s.out; ++o) {
      const double g = At(d_y, n * s.out + o);
      At(d.d_b, o) += g;
      for (int64_t i = 0; i < s.in; ++i) {
        At(d.d_x, n * s.in + i) += g * At(w, o * s.in + i);
        At(d.d_w, o * s.in + i) += g * At(x, n * s.in + i);
      }
    }
  }
  return d;
}

Tensor ConvForward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& b) {
  const ImageShape out = s.out();
  Tensor y = Zeros(out.count());
  ForEachProduct(s, [&](int64_t in_x, int64_t in_w, int64_t in_y) {
    At(y, in_y) += At(x, in_x) * At(w, in_w);
  });
  for (int64_t i = 0; i < out.count() && !b.empty(); ++i) {
    At(y, i) += At(b, i / (out.height * out.width) % out.channels);
  }
  return y;
}

WeightGradients ConvBackward(const ConvShape& s,
                             const Tensor& x,
                             const Tensor& w,
                             const Tensor& d_y) {
  const ImageShape out = s.out();
  WeightGradients d = {Zeros(s.in.count()), Tensor(w.size(), 0.0), Zeros(s.out_channels)};
  ForEachProduct(s, [&](int64_t in_x, int64_t in_w, int64_t in_y) {
    At(d.d_x, in_x) += At(d_y, in_y) * At(w, in_w);
    At(d.d_w, in_w) += At(d_y, in_y) * At(x, in_x);
  });
  for (int64_t i = 0; i < out.count(); ++i) {
    At(d.d_b, i / (out.height * out.width) % out.channels) += At(d_y, i);
  }
  return d;
}

Statistics BatchStatistics(const NormShape& s, const Tensor& x) {
  Statistics result = {Zeros(s.channels), Zeros(s.channels)};
  for (int64_t c = 0; c < s.channels; ++c) {
    double sum = 0;
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t a = 0; a < s.area; ++a) {
        sum += At(x, s.at(n, c, a));
      }
    }
    const double mean = sum / static_cast<double>(s.set());
    double squares = 0;
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t a = 0; a < s.area; ++a) {
        squares += std::pow(At(x, s.at(n, c, a)) - mean, 2);
      }
    }
    At(result.mean, c) = mean;
    At(result.var, c) = squares / static_cast<double>(s.set());
  }
  return result;
}

Tensor Normalize(const NormShape& s,
                 double epsilon,
                 const Tensor& x,
                 const Statistics& statistics,
                 const Tensor& gamma,
                 const Tensor& beta) {
  Tensor y(x.size());
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int64_t a = 0; a < s.area; ++a) {
        const double xh = (At(x, s.at(n, c, a)) - At(statistics.mean, c)) /
                          std::sqrt(At(statistics.var, c) + epsilon);
        At(y, s.at(n, c, a)) =
            (gamma.empty() ? 1 : At(gamma, c)) * xh + (beta.empty() ? 0 : At(beta, c));
      }
    }
  }
  return y;
}

NormGradients BatchNormBackward(
    const NormShape& s, double epsilon, const Tensor& x, const Tensor& gamma, const Tensor& d_y) {
  const Statistics batch = BatchStatistics(s, x);
  const auto m = static_cast<double>(s.set());
  NormGradients d = {Tensor(x.size()), Zeros(s.channels), Zeros(s.channels)};
  for (int64_t c = 0; c < s.channels; ++c) {
    const double mean = At(batch.mean, c);
    const double v = At(batch.var, c) + epsilon;
    const double g = gamma.empty() ? 1 : At(gamma, c);
    double d_var = 0;
    double d_mean = 0;
    double sum_centred = 0;
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t a = 0; a < s.area; ++a) {
        const double centred = At(x, s.at(n, c, a)) - mean;
        const double d_out = At(d_y, s.at(n, c, a));
        At(d.d_gamma, c) += d_out * centred / std::sqrt(v);
        At(d.d_beta, c) += d_out;
        d_var += d_out * g * centred * -0.5 * std::pow(v, -1.5);
        d_mean += d_out * g * -1 / std::sqrt(v);
        sum_centred += centred;
      }
    }
    d_mean += d_var * -2 * sum_centred / m;
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t a = 0; a < s.area; ++a) {
        const int64_t i = s.at(n, c, a);
        At(d.d_x, i) =
            At(d_y, i) * g / std::sqrt(v) + d_var * 2 * (At(x, i) - mean) / m + d_mean / m;
      }
    }
  }
  return d;
}

void UpdateRunning(const NormShape& s, double rate, const Statistics& batch, Statistics& running) {
  const auto m = static_cast<double>(s.set());
  for (int64_t c = 0; c < s.channels; ++c) {
    At(running.mean, c) = (1 - rate) * At(running.mean, c) + rate * At(batch.mean, c);
    At(running.var, c) = (1 - rate) * At(running.var, c) + rate * At(batch.var, c) * m / (m - 1);
  }
}

namespace {

constexpr double kSeluAlpha = 1.6732632423543772;
constexpr double kSeluScale = 1.0507009873554805;

double NormalDistribution(double x) {
  return std::erfc(-x / std::sqrt(2.0)) / 2;
}

}  // namespace

Tensor ActivationForward(ActivationKind kind, const Tensor& x) {
  Tensor y = x;
  for (double& v : y) {
    switch (kind) {
      case ActivationKind::kIdentity:
        break;
      case ActivationKind::kRelu:
        v = std::max(v, 0.0);
        break;
      case ActivationKind::kSigmoid:
        v = 1 / (1 + std::exp(-v));
        break;
      case ActivationKind::kTanh:
        v = std::tanh(v);
        break;
      case ActivationKind::kLeakyRelu:
        v = v < 0 ? 0.01 * v : v;
        break;
      case ActivationKind::kElu:
        v = v < 0 ? std::expm1(v) : v;
        break;
      case ActivationKind::kSelu:
        v = kSeluScale * (v < 0 ? kSeluAlpha * std::expm1(v) : v);
        break;
      case ActivationKind::kGelu:
        v = v * NormalDistribution(v);
        break;
      case ActivationKind::kSilu:
        v = v / (1 + std::exp(-v));
        break;
    }
  }
  return y;
}

Tensor ActivationBackward(ActivationKind kind, const Tensor& x, const Tensor& d_y) {
  const Tensor y = ActivationForward(kind, x);
  Tensor d_x = d_y;
  for (size_t i = 0; i < x.size(); ++i) {
    switch (kind) {
      case ActivationKind::kIdentity:
        break;
      case ActivationKind::kRelu:
        d_x[i] *= x[i] > 0 ? 1 : 0;
        break;
      case ActivationKind::kSigmoid:
        d_x[i] *= y[i] * (1 - y[i]);
        break;
      case ActivationKind::kTanh:
        d_x[i] *= 1 - y[i] * y[i];
        break;
      case ActivationKind::kLeakyRelu:
        d_x[i] *= x[i] > 0 ? 1 : 0.01;
        break;
      case ActivationKind::kElu:
        d_x[i] *= x[i] > 0 ? 1 : std::exp(x[i]);
        break;
      case ActivationKind::kSelu:
        d_x[i] *= kSeluScale * (x[i] > 0 ? 1 : kSeluAlpha * std::exp(x[i]));
        break;
      case ActivationKind::kGelu:
        d_x[i] *=
            NormalDistribution(x[i]) + x[i] * std::exp(-x[i] * x[i] / 2) / std::sqrt(2 * M_PI);
        break;
      case ActivationKind::kSilu: {
        const double sigmoid = 1 / (1 + std::exp(-x[i]));
        d_x[i] *= sigmoid * (1 + x[i] * (1 - sigmoid));
        break;
      }
    }
  }
  return d_x;
}

Tensor PoolForward(const PoolShape& s, const Tensor& x) {
  const ImageShape out = s.out();
  Tensor y = Zeros(out.count());
  for (int64_t n = 0; n < out.batch; ++n) {
    for (int64_t c = 0; c < out.channels; ++c) {
      for (int64_t h = 0; h < out.height; ++h) {
        for (int64_t w = 0; w < out.width; ++w) {
          double largest = At(x, s.in.at(n, c, h * s.stride, w * s.stride));
          double sum = 0;
          for (int64_t i = 0; i < s.window * s.window; ++i) {
            const double v =
                At(x, s.in.at(n, c, h * s.stride + i / s.window, w * s.stride + i % s.window));
            largest = std::max(largest, v);
            sum += v;
          }
          At(y, out.at(n, c, h, w)) =
              s.kind == PoolKind::kMax ? largest : sum / static_cast<double>(s.window * s.window);
        }
      }
    }
  }
  return y;
}

Tensor PoolBackward(const PoolShape& s, const Tensor& x, const Tensor& d_y) {
  const ImageShape out = s.out();
  Tensor d_x = Zeros(s.in.count());
  for (int64_t n = 0; n < out.batch; ++n) {
    for (int64_t c = 0; c < out.channels; ++c) {
      for (int64_t h = 0; h < out.height; ++h) {
        for (int64_t w = 0; w < out.width; ++w) {
          const double g = At(d_y, out.at(n, c, h, w));
          int64_t largest = s.in.at(n, c, h * s.stride, w * s.stride);
          for (int64_t i = 0; i < s.window * s.window; ++i) {
            const int64_t index =
                s.in.at(n, c, h * s.stride + i / s.window, w * s.stride + i % s.window);
            largest = At(x, index) > At(x, largest) ? index : largest;
            if (s.kind == PoolKind::kAverage) {
              At(d_x, index) += g / static_cast<double>(s.window * s.window);
            }
          }
          if (s.kind == PoolKind::kMax) {
            At(d_x, largest) += g;
          }
        }
      }
    }
  }
  return d_x;
}

Loss SoftmaxCrossEntropy(int64_t batch,
                         int64_t classes,
                         const Tensor& logits,
                         const std::vector<int32_t>& labels) {
  Loss loss;
  loss.d_logits = Zeros(batch * classes);
  for (int64_t n = 0; n < batch; ++n) {
    const auto row = logits.begin() + n * classes;
    const int64_t label = labels[static_cast<size_t>(n)];
    const auto largest = std::max_element(row, row + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) {
      sum += std::exp(row[c] - *largest);
    }
    loss.mean -= (row[label] - *largest - std::log(sum)) / static_cast<double>(batch);
    loss.correct += largest - row == label ? 1 : 0;
    for (int64_t c = 0; c < classes; ++c) {
      const double p = std::exp(row[c] - *largest) / sum;
      At(loss.d_logits, n * classes + c) = (p - (c == label ? 1 : 0)) / static_cast<double>(batch);
    }
  }
  return loss;
}

}  // namespace normlab::engine::reference
