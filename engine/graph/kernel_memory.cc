#include "engine/graph/kernel_memory.h"

#include <algorithm>

#include "engine/graph/infer.h"
#include "engine/graph/winograd_rule.h"

namespace normlab::engine {
namespace {

constexpr int64_t kFloat = sizeof(float);
// Channels lie in blocks of at most so many.
constexpr int64_t kBlock = 16;

// Winograd makes of every tile of outputs so many transformed values of each channel.
constexpr int64_t kTransformed = 36;
// How oneDNN 2.6's Winograd lays its scratch memory out: each of its arrays begins at such a page;
// while there are enough channels and the transformed weights are small, every thread works on a few
// tiles at a time that fill a part of its cache, else all tiles are transformed at once.
constexpr int64_t kWinogradPage = int64_t{2} << 20;
constexpr int64_t kSmallWeights = int64_t{128} * 128;

Saturating WinogradScratch(const Node& node, const PlanSize& size, WeightPass pass) {
  const bool weights = pass == WeightPass::kGradientOfWeights;
  const Saturating in = PadChannels(node.in[0]);
  const Saturating out = PadChannels(node.out[0]);
  const Saturating tiles = Saturating(size.batch) *
                           ((node.out[1] + kWinogradTile - 1) / kWinogradTile) *
                           ((node.out[2] + kWinogradTile - 1) / kWinogradTile);
  Saturating transformed = (in + out) * tiles * kTransformed * kFloat;
  if ((in * out).value() <= kSmallWeights &&
      std::min(node.in[0], node.out[0]) >= kWinogradChannels && !weights) {
    transformed = Smaller(transformed, Saturating(size.threads) * kWinogradPage);
  }
  const int64_t copies = weights ? int64_t{size.threads} + 1 : 1;
  return transformed + in * out * kTransformed * kFloat * copies +
         Saturating(weights ? 4 : 3) * kWinogradPage;
}

}  // namespace

int64_t PadChannels(int64_t channels) {
  return channels > kMaxElements ? channels : (channels + kBlock - 1) / kBlock * kBlock;
}

WeightTransform TransformOf(const Node& node) {
  const auto* conv = std::get_if<ConvNode>(&node.kind);
  return conv != nullptr ? conv->weights.transform
                         : std::get<LinearNode>(node.kind).weights.transform;
}

Saturating WeightElements(const Node& node) {
  const auto* conv = std::get_if<ConvNode>(&node.kind);
  if (conv == nullptr) {
    return Saturating(PadChannels(node.in[0])) * PadChannels(node.out[0]);
  }
  // Each group's channels may be padded.
  return Saturating(conv->groups) * PadChannels(node.in[0] / conv->groups) *
         PadChannels(node.out[0] / conv->groups) * conv->kernel * conv->kernel;
}

bool MayUseWinograd(const Node& node, const PlanSize& size, WeightPass pass) {
  const auto* conv = std::get_if<ConvNode>(&node.kind);
  if (conv == nullptr || size.winograd == WinogradUse::kNever || conv->kernel != 3 ||
      conv->stride != 1 || conv->groups != 1) {
    return false;
  }
  const int64_t least = pass == WeightPass::kGradientOfWeights ? kWinogradBlock : kWinogradChannels;
  return size.winograd == WinogradUse::kAlways || std::min(node.in[0], node.out[0]) >= least;
}

Saturating KernelScratch(const Node& node, const PlanSize& size, WeightPass pass) {
  const auto* conv = std::get_if<ConvNode>(&node.kind);
  if (conv == nullptr) {
    // Copies of what is multiplied, in blocks.
    constexpr int64_t kBytesPerThread = int64_t{64} << 10;
    return Saturating(size.batch) * (Saturating(node.in[0]) + node.out[0]) * kFloat +
           Saturating(size.threads) * kBytesPerThread;
  }
  // The unfolded image of every thread; partial gradients of the weights, of which oneDNN's matrix
  // products keep four where it has no better kernel (2x2 images on AVX2).
  constexpr int64_t kPartialGradients = 4;
  Saturating floats =
      Saturating(node.in[0]) * conv->kernel * conv->kernel * node.out[1] * node.out[2];
  if (pass == WeightPass::kGradientOfWeights) {
    floats += WeightElements(node) * kPartialGradients;
  }
  Saturating scratch = Saturating(size.threads) * kFloat * floats;
  if (MayUseWinograd(node, size, pass)) {
    scratch = Larger(scratch, WinogradScratch(node, size, pass));
  }
  if (conv->kernel == 3 && node.out[1] == 2 && node.out[2] == 2) {
    // Of 2x2 images nine products of matrices, with planes of the input, of the output and of both.
    constexpr int64_t kProducts = 9;
    const Saturating channels = Saturating(PadChannels(node.in[0])) + PadChannels(node.out[0]);
    scratch = Larger(scratch, Saturating(size.batch) * channels * kProducts * kFloat);
  }
  return scratch;
}

}  // namespace normlab::engine
