#include "engine/layers/convolution_choice.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/graph/graph.h"
#include "engine/graph/winograd_rule.h"
#include "engine/tensor/buffer_pool.h"

namespace normlab::engine {
namespace {

constexpr int kMinimumRuns = 3;
constexpr int kMaximumRuns = 10;
constexpr double kEnoughSeconds = 0.005;

// By tests/bench/convolution_table (oneDNN 2.6.3 on Sapphire Rapids, batches of 128, 1 and 2 threads):
// * Fewer channels than this, in or out, leave Winograd's matrix products too thin: 16 -> 16
//   channels take 1.3 to 2 times as long as directly, 3 -> 64 over 10 times. From 32 on it wins 1.4
//   to 4 times. The gradient of the weights, slow when computed directly, is faster from one whole
//   block on.
// * A tile has 4x4 outputs. On 2x2 images three quarters of it are thrown away, and direct wins
//   twofold; but for the gradient of the weights, where the direct kernel is slower still.
//   The gradient of the weights on such small images is also where the bf16 kernels lose: it takes
//   at least twice as long as converting the data to F32 and Winograd, on AMX and without.

// Ops over memory of their own, for a measurement.
class Trial {
 public:
  explicit Trial(const Runtime& runtime) : runtime_(runtime) {}

  Buffer* Reserve(const Layout& layout) { return pool_.Reserve(layout.bytes(), 0, /*kept=*/true); }

  absl::Status Add(Op op, const std::vector<std::pair<Arg, Buffer*>>& arguments) {
    for (const auto& [arg, buffer] : arguments) {
      NORMLAB_RETURN_IF_ERROR(op.Bind(arg, buffer));
    }
    NORMLAB_RETURN_IF_ERROR(op.Bind(Arg::kScratchpad, Reserve(op.layout(Arg::kScratchpad))));
    ops_.push_back(std::move(op));
    return absl::OkStatus();
  }

  // A buffer in the layout that the op wants, filled by a reorder from `given` where they differ.
  absl::StatusOr<Buffer*> Into(const Layout& given, const Layout& wanted) {
    Buffer* to = Reserve(wanted);
    NORMLAB_RETURN_IF_ERROR(Reorder(given, Reserve(given), wanted, to));
    return to;
  }
  absl::Status OutOf(const Layout& computed, Buffer* buffer, const Layout& wanted) {
    return Reorder(computed, buffer, wanted, Reserve(wanted));
  }

  absl::StatusOr<double> Seconds() {
    using Clock = std::chrono::steady_clock;
    NORMLAB_RETURN_IF_ERROR(pool_.Allocate());
    for (Op& op : ops_) {
      NORMLAB_RETURN_IF_ERROR(op.Connect());
    }
    double fastest = std::numeric_limits<double>::infinity();
    double total = 0;
    for (int run = 0; run <= kMaximumRuns && (run <= kMinimumRuns || total < kEnoughSeconds);
         ++run) {
      const Clock::time_point start = Clock::now();
      for (const Op& op : ops_) {
        op.Run();
      }
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (run > 0) {  // the first one touches the memory
        fastest = std::min(fastest, seconds);
        total += seconds;
      }
    }
    return fastest;
  }

 private:
  absl::Status Reorder(const Layout& from, Buffer* source, const Layout& to, Buffer* destination) {
    if (from == to) {
      return absl::OkStatus();
    }
    NORMLAB_ASSIGN_OR_RETURN(Op reorder, MakeReorder(runtime_, from, to));
    return Add(std::move(reorder), {{Arg::kSource, source}, {Arg::kDestination, destination}});
  }

  const Runtime& runtime_;
  BufferPool pool_;
  std::vector<Op> ops_;
};

}  // namespace

double ConvolutionProblem::operations() const {
  const int64_t per_output = ElementCount(w) / y[1];
  return 2.0 * static_cast<double>(ElementCount(y)) * static_cast<double>(per_output);
}

absl::string_view PassName(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return "forward";
    case ConvolutionPass::kBackwardData:
      return "backward_data";
    case ConvolutionPass::kBackwardWeights:
      return "backward_weights";
  }
  return "";
}

std::string ToString(const ConvolutionChoice& choice) {
  return absl::StrCat(choice.algorithm == ConvAlgorithm::kWinograd ? "winograd" : "direct", "_",
                      choice.type == DataType::kBf16 ? "bf16" : "f32");
}

std::optional<ConvolutionChoice> ParseConvolutionChoice(absl::string_view text) {
  for (const ConvAlgorithm algorithm : {ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd}) {
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
      const ConvolutionChoice choice = {algorithm, type};
      if (text == ToString(choice)) {
        return choice;
      }
    }
  }
  return std::nullopt;
}

std::vector<ConvolutionChoice> ConvolutionCandidates(const ConvolutionProblem& problem,
                                                     ConvolutionPass pass,
                                                     bool winograd) {
  std::vector<ConvolutionChoice> candidates = {{ConvAlgorithm::kDirect, problem.type}};
  const bool in_f32 = problem.type == DataType::kF32 || pass == ConvolutionPass::kBackwardWeights;
  if (winograd && in_f32 && !problem.grouped() && problem.w[2] == 3 && problem.w[3] == 3 &&
      problem.geometry.stride == 1 && std::min(problem.x[1], problem.y[1]) >= kWinogradBlock) {
    candidates.push_back({ConvAlgorithm::kWinograd, DataType::kF32});
  }
  return candidates;
}

ConvolutionChoice ChooseConvolution(const ConvolutionProblem& problem,
                                    ConvolutionPass pass,
                                    bool winograd) {
  const std::vector<ConvolutionChoice> candidates = ConvolutionCandidates(problem, pass, winograd);
  const bool of_weights = pass == ConvolutionPass::kBackwardWeights;
  const int64_t least = of_weights ? kWinogradBlock : kWinogradChannels;
  if (candidates.size() == 1 || std::min(problem.x[1], problem.y[1]) < least) {
    return candidates[0];
  }
  const int64_t size = std::min(problem.y[2], problem.y[3]);
  if (problem.type == DataType::kBf16) {
    return candidates[size <= kWinogradTile ? 1 : 0];
  }
  return candidates[size >= kWinogradTile || of_weights ? 1 : 0];
}

absl::StatusOr<Op> MakeConvolution(const Runtime& runtime,
                                   const ConvolutionProblem& problem,
                                   ConvolutionPass pass,
                                   const ConvolutionChoice& choice) {
  const Layout x = Layout::Any(problem.x, choice.type);
  const Layout w = Layout::Any(problem.w, choice.type);
  const Layout y = Layout::Any(problem.y, choice.type);
  absl::StatusOr<Op> forward = MakeConvolutionForward(
      runtime, problem.geometry, x, w, y, problem.bias, problem.training, choice.algorithm);
  if (pass == ConvolutionPass::kForward || !forward.ok()) {
    return forward;
  }
  if (pass == ConvolutionPass::kBackwardData) {
    return MakeConvolutionBackwardData(runtime, problem.geometry, x, w, y, *forward,
                                       choice.algorithm);
  }
  return MakeConvolutionBackwardWeights(runtime, problem.geometry, x, Layout::Any(problem.w), y,
                                        problem.bias, *forward, choice.algorithm);
}

absl::StatusOr<double> MeasureConvolution(const Runtime& runtime,
                                          const ConvolutionProblem& problem,
                                          ConvolutionPass pass,
                                          const ConvolutionChoice& choice,
                                          const ConvolutionNeighbours& neighbours) {
  NORMLAB_ASSIGN_OR_RETURN(Op op, MakeConvolution(runtime, problem, pass, choice));
  const Layout plain_w = Layout::RowMajor(problem.w);
  const Layout vector = Layout::RowMajor({problem.y[1]});
  Trial trial(runtime);
  std::vector<std::pair<Arg, Buffer*>> arguments;
  const auto take = [&](Arg arg, const Layout& given) -> absl::Status {
    NORMLAB_ASSIGN_OR_RETURN(Buffer * buffer, trial.Into(given, op.layout(arg)));
    arguments.emplace_back(arg, buffer);
    return absl::OkStatus();
  };
  const auto give = [&](Arg arg) {
    arguments.emplace_back(arg, trial.Reserve(op.layout(arg)));
    return arguments.back().second;
  };
  const Layout d_w = op.layout(Arg::kDiffWeights);
  Buffer* d_weights = nullptr;
  switch (pass) {
    case ConvolutionPass::kForward:
      NORMLAB_RETURN_IF_ERROR(take(Arg::kSource, neighbours.x));
      NORMLAB_RETURN_IF_ERROR(take(Arg::kWeights, plain_w));
      arguments.emplace_back(Arg::kBias, trial.Reserve(vector));
      give(Arg::kDestination);
      break;
    case ConvolutionPass::kBackwardData:
      NORMLAB_RETURN_IF_ERROR(take(Arg::kDiffDestination, neighbours.d_y));
      NORMLAB_RETURN_IF_ERROR(take(Arg::kWeights, plain_w));
      give(Arg::kDiffSource);
      break;
    case ConvolutionPass::kBackwardWeights:
      NORMLAB_RETURN_IF_ERROR(take(Arg::kSource, neighbours.x));
      NORMLAB_RETURN_IF_ERROR(take(Arg::kDiffDestination, neighbours.d_y));
      d_weights = give(Arg::kDiffWeights);
      arguments.emplace_back(Arg::kDiffBias, trial.Reserve(vector));
      break;
  }
  NORMLAB_RETURN_IF_ERROR(trial.Add(std::move(op), arguments));
  if (d_weights != nullptr) {
    NORMLAB_RETURN_IF_ERROR(trial.OutOf(d_w, d_weights, plain_w));
  }
  return trial.Seconds();
}

}  // namespace normlab::engine
