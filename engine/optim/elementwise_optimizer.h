#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"

#include "engine/optim/optimizer.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {

// Part of an arena, in floats.
struct FloatRange {
  int64_t offset = 0;
  int64_t count = 0;
};

// What every optimizer is told beside its own settings.
struct UpdateScope {
  int64_t floats = 0;  // of the parameter arena
  // Where weight decay does not apply; ascending and disjoint.
  std::vector<FloatRange> without_decay;
  // The whole gradient is scaled down to this l2 norm when it is longer, as
  // torch.nn.utils.clip_grad_norm_ does it; 0: never.
  double clip_norm = 0;
  // Every component is limited to [-clip_value, clip_value], as clip_grad_value_ does it; 0: never.
  double clip_value = 0;
};

// What an optimizer sees of a gradient component. Comparisons in this form keep NaN.
struct GradientView {
  float scale = 1;
  float limit = std::numeric_limits<float>::infinity();

  NORMLAB_INLINE float operator()(float gradient) const {
    const float scaled = gradient * scale;
    const float below = scaled > limit ? limit : scaled;
    return below < -limit ? -limit : below;
  }
};

// Bits of a float without its sign: from those of infinity on it is not finite.
NORMLAB_INLINE uint32_t Magnitude(float value) {
  constexpr uint32_t kWithoutSign = 0x7FFFFFFF;
  return std::bit_cast<uint32_t>(value) & kWithoutSign;
}

// An optimizer that updates every parameter from its own gradient and state alone: this class clips,
// tells which parameters decay, and shares the work out among threads; a derived class has the
// formula. An update passes over memory once (twice when the norm is clipped).
//
// All arithmetic of the formulas is in float without fused multiply-add, and the norm is summed in
// double over fixed pieces: the same bits on every CPU and for every number of threads.
class ElementwiseOptimizer : public Optimizer {
 public:
  bool Step(double learning_rate,
            absl::Span<const float> gradients,
            absl::Span<float> parameters) final;

 protected:
  explicit ElementwiseOptimizer(const UpdateScope& scope);

  // Once per update, before the pieces.
  virtual void BeginStep(double learning_rate) = 0;
  // Updates `count` parameters from number `first` of the arena on; `gradients` and `parameters`
  // point to that one already. Called from several threads at once for disjoint pieces. Returns the
  // largest Magnitude of the new parameters.
  virtual uint32_t UpdatePiece(int64_t first,
                               int64_t count,
                               bool decays,
                               GradientView view,
                               const float* gradients,
                               float* parameters) = 0;

 private:
  struct Piece {
    int64_t first = 0;
    int64_t count = 0;
    bool decays = true;
  };

  void AddPieces(FloatRange range, bool decays);
  double NormOf(absl::Span<const float> gradients);
  GradientView ViewOf(absl::Span<const float> gradients);

  const double clip_norm_;
  const double clip_value_;
  std::vector<Piece> pieces_;    // cover the arena in order
  std::vector<double> squares_;  // of the norm, one a fixed piece; empty when it is not clipped
};

}  // namespace normlab::engine
