#include "engine/layers/reference_structural.h"

namespace normlab::engine::reference {
namespace {

double At(const Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
double& At(Tensor& tensor, int64_t index) {
  return tensor[static_cast<size_t>(index)];
}
Tensor Zeros(int64_t count) {
  return Tensor(static_cast<size_t>(count), 0.0);
}

// Calls visit(n, c, h, w).
template <typename Visit>
void ForEach(const ImageShape& s, const Visit& visit) {
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int64_t h = 0; h < s.height; ++h) {
        for (int64_t w = 0; w < s.width; ++w) {
          visit(n, c, h, w);
        }
      }
    }
  }
}

}  // namespace

Tensor GlobalAveragePoolForward(const ImageShape& s, const Tensor& x) {
  Tensor y = Zeros(s.batch * s.channels);
  ForEach(s, [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    At(y, n * s.channels + c) += At(x, s.at(n, c, h, w)) / static_cast<double>(s.height * s.width);
  });
  return y;
}

Tensor GlobalAveragePoolBackward(const ImageShape& s, const Tensor& d_y) {
  Tensor d_x = Zeros(s.count());
  ForEach(s, [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    At(d_x, s.at(n, c, h, w)) =
        At(d_y, n * s.channels + c) / static_cast<double>(s.height * s.width);
  });
  return d_x;
}

Tensor PadForward(const PadShape& s, const Tensor& x) {
  Tensor y = Zeros(s.out().count());
  ForEach(s.in, [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    At(y, s.out().at(n, c, h + s.top(), w + s.left())) = At(x, s.in.at(n, c, h, w));
  });
  return y;
}

Tensor PadBackward(const PadShape& s, const Tensor& d_y) {
  Tensor d_x = Zeros(s.in.count());
  ForEach(s.in, [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    At(d_x, s.in.at(n, c, h, w)) = At(d_y, s.out().at(n, c, h + s.top(), w + s.left()));
  });
  return d_x;
}

Tensor SubsampleForward(const SubsampleShape& s, const Tensor& x) {
  Tensor y = Zeros(s.out().count());
  ForEach(s.out(), [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    if (c < s.in.channels) {
      At(y, s.out().at(n, c, h, w)) = At(x, s.in.at(n, c, h * s.stride, w * s.stride));
    }
  });
  return y;
}

Tensor SubsampleBackward(const SubsampleShape& s, const Tensor& d_y) {
  Tensor d_x = Zeros(s.in.count());
  ForEach(s.out(), [&](int64_t n, int64_t c, int64_t h, int64_t w) {
    if (c < s.in.channels) {
      At(d_x, s.in.at(n, c, h * s.stride, w * s.stride)) = At(d_y, s.out().at(n, c, h, w));
    }
  });
  return d_x;
}

}  // namespace normlab::engine::reference
