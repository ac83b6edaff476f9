#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/dnnl/primitives.h"
#include "engine/dnnl/runtime.h"
#include "engine/graph/node.h"

namespace normlab::engine {

// The convolution of one layer in one plan: all that its kernels are made and chosen by.
struct ConvolutionProblem {
  Dims x;  // [N,I,H,W]
  Dims w;  // [O,I,KH,KW] or [G,O/G,I/G,KH,KW]
  Dims y;  // [N,O,H',W']
  WindowGeometry geometry;
  DataType type = DataType::kF32;  // of data and weights; gradients of weights are F32
  bool bias = false;
  bool training = true;

  bool grouped() const { return w.size() == 5; }
  // Multiplications and additions of one pass.
  double operations() const;
};

enum class ConvolutionPass { kForward, kBackwardData, kBackwardWeights };

// "forward", "backward_data", "backward_weights": as choices are recorded.
absl::string_view PassName(ConvolutionPass pass);

// What computes a pass. The type is that of data and weights, and may be F32 in a bf16 problem: then
// data is converted.
struct ConvolutionChoice {
  ConvAlgorithm algorithm = ConvAlgorithm::kDirect;
  DataType type = DataType::kF32;

  friend bool operator==(const ConvolutionChoice& a, const ConvolutionChoice& b) = default;
};

// "winograd_f32" and back; nullopt: not one of ours.
std::string ToString(const ConvolutionChoice& choice);
std::optional<ConvolutionChoice> ParseConvolutionChoice(absl::string_view text);

// Everything that may compute a pass, the direct algorithm in the problem's type first; `winograd`
// is HasWinograd(), and needs at least 16 channels in and out. Of a bf16 problem only the gradient of the weights, an F32 number anyway, may be
// computed in F32.
std::vector<ConvolutionChoice> ConvolutionCandidates(const ConvolutionProblem& problem,
                                                     ConvolutionPass pass,
                                                     bool winograd);

// The fixed rule behind ConvolutionPolicy::kAuto, always one of the candidates: a pure function of
// shape, pass, precision and instruction set (`winograd`: HasWinograd()), so that a job computes the
// same numbers whenever it runs on such a machine. It follows what tests/bench/convolution_table
// measures; see the .cc file.
ConvolutionChoice ChooseConvolution(const ConvolutionProblem& problem,
                                    ConvolutionPass pass,
                                    bool winograd);

// The op of one pass, its layouts chosen by oneDNN. Errors as primitives.h.
absl::StatusOr<Op> MakeConvolution(const Runtime& runtime,
                                   const ConvolutionProblem& problem,
                                   ConvolutionPass pass,
                                   const ConvolutionChoice& choice);

// What surrounds a pass: reorders between these layouts and the op's count as its work.
struct ConvolutionNeighbours {
  Layout x;    // of the source as it is given (forward, backward weights)
  Layout d_y;  // of the gradient as it is given (backward passes)
};

// Seconds that the pass takes once, reorders of data and of weights (from and to the plain layout)
// included: the fastest of several runs on scratch memory. Takes about 10 runs, at least 5 ms.
absl::StatusOr<double> MeasureConvolution(const Runtime& runtime,
                                          const ConvolutionProblem& problem,
                                          ConvolutionPass pass,
                                          const ConvolutionChoice& choice,
                                          const ConvolutionNeighbours& neighbours);

}  // namespace normlab::engine
