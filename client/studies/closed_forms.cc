#include "client/studies/closed_forms.h"

#include <cmath>
#include <numbers>

namespace normlab::client::studies {

double LinearGrowth(int batch) {
  const double b = batch;
  return (b - 2) / (b - 3);
}

double ReluGrowth(int batch) {
  constexpr double kPi = std::numbers::pi;
  const double b = batch;
  const double c = -1 / (b - 1);
  // Arc-cosine kernels (Cho and Saul 2009): the expected product of ReLU, and of its derivative, of two unit normals of
  // correlation c, over the value at c = 1.
  const double kernel = (std::sqrt(1 - c * c) + (kPi - std::acos(c)) * c) / kPi;
  const double derivative_kernel = (kPi - std::acos(c)) / kPi;
  return ((derivative_kernel + b - 1) / (1 - kernel) - 1) / (b - 3);
}

}  // namespace normlab::client::studies
