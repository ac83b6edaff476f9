#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "engine/layers/convolution_choice.h"
#include "engine/layers/plan.h"

namespace normlab::engine {

// The passes of a convolution of 2x2 images with padding 1, by nine products of matrices instead of
// the 16 that the direct algorithm takes (see small_image_kernels.h). oneDNN's kernels compute such
// images two to four times as slowly: their tiles and vectors are made for larger ones.
//
// A layer may plan only some of its passes with it. Thread-compatible; owns nothing big: ops and
// buffers are the planner's.
class SmallImageConvolution {
 public:
  // Whether it can compute the pass, and is to: a pure function of shape, pass and precision. Not of
  // bf16 data, but for the gradient of its weights, which are F32.
  static bool Fits(const ConvolutionProblem& problem, ConvolutionPass pass);

  // `name`: of the layer, for records.
  SmallImageConvolution(std::string name, const ConvolutionProblem& problem);

  // `w`: plain; `bias`: null for none. Returns y.
  absl::StatusOr<View> PlanForward(Planner& planner,
                                   const View& x,
                                   const View& w,
                                   const float* bias);
  // Into the plain `d_w` and, unless null, `d_bias`. x and d_y may lie in any order and type.
  absl::Status PlanBackwardWeights(
      Planner& planner, const View& x, const View& d_y, const View& d_w, float* d_bias);
  // After PlanForward, whose w it uses, and PlanBackwardWeights of the same d_y, if that is planned;
  // runs after it, too. Returns d_x.
  absl::StatusOr<View> PlanBackwardData(Planner& planner, const View& d_y);

  // After w changed.
  void Refresh() const;
  void Forward() const;
  void BackwardWeights() const;
  void BackwardData() const;

 private:
  struct Image {
    View view;
    ChannelBlocking shape;
    OpList convert;  // to `view`, first of all
  };

  // As the loops can read it.
  absl::StatusOr<Image> Given(Planner& planner, const View& view) const;
  // Of y: as oneDNN's direct convolution would leave it, for which the layers that follow are fast.
  absl::StatusOr<Layout> OutputLayout(const Planner& planner) const;
  static Image Made(Planner& planner, const Layout& layout);
  // [9,N,channels] for this tick.
  Buffer* Planes(Planner& planner, int64_t channels) const;
  absl::StatusOr<Op*> PlanProducts(Planner& planner,
                                   ConvolutionPass pass,
                                   const MatrixProducts& products,
                                   Buffer* a,
                                   Buffer* b,
                                   Buffer* c) const;

  const std::string name_;
  const ConvolutionProblem problem_;
  const int64_t batch_;
  const int64_t inputs_;
  const int64_t outputs_;

  const Buffer* w_ = nullptr;
  Buffer* u_ = nullptr;  // [9,O,I]

  // Of every pass: what it reads, the planes of that, their products, what they make.
  struct ForwardPass {
    Image x, y;
    const float* bias = nullptr;
    Buffer* x_planes = nullptr;
    Buffer* y_planes = nullptr;
    const Op* products = nullptr;
  } forward_;
  struct WeightsPass {
    Image x, d_y;
    const Buffer* d_w = nullptr;
    float* d_bias = nullptr;
    Buffer* x_planes = nullptr;
    Buffer* d_y_planes = nullptr;
    Buffer* d_u = nullptr;
    const Op* products = nullptr;
  } weights_;
  struct DataPass {
    Image d_y, d_x;
    Buffer* d_y_planes = nullptr;
    Buffer* d_x_planes = nullptr;
    const Op* products = nullptr;
  } data_;
};

}  // namespace normlab::engine
