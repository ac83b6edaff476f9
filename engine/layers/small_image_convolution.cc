#include "engine/layers/small_image_convolution.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/layers/small_image_kernels.h"

namespace normlab::engine {
namespace {

// Whole vectors of channels, so that no order in memory pads them.
constexpr int64_t kChannelBlock = 16;
// Blocks narrower than this make the loops slow.
constexpr int64_t kLeastBlock = 8;
// Fewer channels, in or out, leave the products too thin.
constexpr int64_t kLeastChannels = 32;

int64_t Bytes(int64_t floats) {
  return floats * static_cast<int64_t>(sizeof(float));
}

// Whether the loops can read it, and fast.
bool IsReadable(const Layout& layout) {
  const std::optional<ChannelBlocking> shape = layout.channel_blocking();
  return shape.has_value() && shape->block >= kLeastBlock && shape->channels % shape->block == 0;
}

}  // namespace

bool SmallImageConvolution::Fits(const ConvolutionProblem& problem, ConvolutionPass pass) {
  const bool in_f32 = problem.type == DataType::kF32 || pass == ConvolutionPass::kBackwardWeights;
  const auto wide = [](int64_t channels) {
    return channels >= kLeastChannels && channels % kChannelBlock == 0;
  };
  return in_f32 && !problem.grouped() && problem.w[2] == 3 && problem.w[3] == 3 &&
         problem.geometry.stride == 1 && problem.geometry.padding == 1 && problem.x[2] == 2 &&
         problem.x[3] == 2 && wide(problem.x[1]) && wide(problem.y[1]);
}

SmallImageConvolution::SmallImageConvolution(std::string name, const ConvolutionProblem& problem)
    : name_(std::move(name)),
      problem_(problem),
      batch_(problem.x[0]),
      inputs_(problem.x[1]),
      outputs_(problem.y[1]) {}

absl::StatusOr<SmallImageConvolution::Image> SmallImageConvolution::Given(Planner& planner,
                                                                          const View& view) const {
  Image image;
  const Layout layout = IsReadable(view.layout) ? view.layout.WithType(DataType::kF32)
                                                : Layout::ChannelsLast(view.layout.dims());
  NORMLAB_ASSIGN_OR_RETURN(image.view, planner.Convert(name_, view, layout, image.convert));
  image.shape = *layout.channel_blocking();
  return image;
}

absl::StatusOr<Layout> SmallImageConvolution::OutputLayout(const Planner& planner) const {
  NORMLAB_ASSIGN_OR_RETURN(const Op direct,
                           MakeConvolution(planner.runtime(), problem_, ConvolutionPass::kForward,
                                           {ConvAlgorithm::kDirect, DataType::kF32}));
  const Layout layout = direct.layout(Arg::kDestination);
  return IsReadable(layout) ? layout : Layout::ChannelsLast(layout.dims());
}

SmallImageConvolution::Image SmallImageConvolution::Made(Planner& planner, const Layout& layout) {
  Image image;
  image.view = planner.Reserve(layout);
  image.shape = *layout.channel_blocking();
  return image;
}

Buffer* SmallImageConvolution::Planes(Planner& planner, int64_t channels) const {
  return planner.Reserve(Bytes(kProductPlanes * batch_ * channels));
}

absl::StatusOr<Op*> SmallImageConvolution::PlanProducts(Planner& planner,
                                                        ConvolutionPass pass,
                                                        const MatrixProducts& products,
                                                        Buffer* a,
                                                        Buffer* b,
                                                        Buffer* c) const {
  const absl::string_view pass_name = PassName(pass);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name_, pass_name, MakeMatrixProducts(planner.runtime(), products),
                             When::kThisTick, "normlab:9_products+"));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, a));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, b));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, c));
  return op;
}

absl::StatusOr<View> SmallImageConvolution::PlanForward(Planner& planner,
                                                        const View& x,
                                                        const View& w,
                                                        const float* bias) {
  w_ = w.buffer;
  u_ = planner.ReserveKept(Bytes(kProductPlanes * outputs_ * inputs_));
  forward_.bias = bias;
  NORMLAB_ASSIGN_OR_RETURN(forward_.x, Given(planner, x));
  NORMLAB_ASSIGN_OR_RETURN(const Layout y, OutputLayout(planner));
  forward_.y = Made(planner, y);
  forward_.x_planes = Planes(planner, inputs_);
  forward_.y_planes = Planes(planner, outputs_);
  NORMLAB_ASSIGN_OR_RETURN(forward_.products,
                           PlanProducts(planner, ConvolutionPass::kForward,
                                        {.count = kProductPlanes,
                                         .rows = batch_,
                                         .inner = inputs_,
                                         .columns = outputs_,
                                         .transposed_b = true},
                                        forward_.x_planes, u_, forward_.y_planes));
  return forward_.y.view;
}

absl::Status SmallImageConvolution::PlanBackwardWeights(
    Planner& planner, const View& x, const View& d_y, const View& d_w, float* d_bias) {
  weights_.d_w = d_w.buffer;
  weights_.d_bias = d_bias;
  NORMLAB_ASSIGN_OR_RETURN(weights_.x, Given(planner, x));
  NORMLAB_ASSIGN_OR_RETURN(weights_.d_y, Given(planner, d_y));
  weights_.x_planes = Planes(planner, inputs_);
  weights_.d_y_planes = Planes(planner, outputs_);
  weights_.d_u = planner.Reserve(Bytes(kProductPlanes * outputs_ * inputs_));
  NORMLAB_ASSIGN_OR_RETURN(weights_.products,
                           PlanProducts(planner, ConvolutionPass::kBackwardWeights,
                                        {.count = kProductPlanes,
                                         .rows = outputs_,
                                         .inner = batch_,
                                         .columns = inputs_,
                                         .transposed_a = true},
                                        weights_.d_y_planes, weights_.x_planes, weights_.d_u));
  return absl::OkStatus();
}

absl::StatusOr<View> SmallImageConvolution::PlanBackwardData(Planner& planner, const View& d_y) {
  data_.d_x = Made(planner, forward_.x.view.layout);
  if (weights_.products == nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(data_.d_y, Given(planner, d_y));
    data_.d_y_planes = Planes(planner, outputs_);
  } else {  // which has just made them
    data_.d_y_planes = weights_.d_y_planes;
  }
  data_.d_x_planes = Planes(planner, inputs_);
  NORMLAB_ASSIGN_OR_RETURN(
      data_.products,
      PlanProducts(planner, ConvolutionPass::kBackwardData,
                   {.count = kProductPlanes, .rows = batch_, .inner = outputs_, .columns = inputs_},
                   data_.d_y_planes, u_, data_.d_x_planes));
  return data_.d_x.view;
}

void SmallImageConvolution::Refresh() const {
  if (u_ != nullptr) {
    SplitKernels(outputs_, inputs_, w_->floats(), u_->floats());
  }
}

void SmallImageConvolution::Forward() const {
  const ForwardPass& pass = forward_;
  RunAll(pass.x.convert);
  SplitImages(pass.x.shape, ImageSide::kInput, pass.x.view.floats(), pass.x_planes->floats());
  pass.products->Run();
  JoinImages(pass.y.shape, ImageSide::kOutput, pass.y_planes->floats(), pass.bias,
             pass.y.view.floats());
}

void SmallImageConvolution::BackwardWeights() const {
  const WeightsPass& pass = weights_;
  RunAll(pass.x.convert);
  RunAll(pass.d_y.convert);
  SplitImages(pass.x.shape, ImageSide::kInput, pass.x.view.floats(), pass.x_planes->floats());
  SplitImages(pass.d_y.shape, ImageSide::kOutput, pass.d_y.view.floats(),
              pass.d_y_planes->floats());
  pass.products->Run();
  JoinKernelGradients(outputs_, inputs_, pass.d_u->floats(), pass.d_w->floats());
  if (pass.d_bias != nullptr) {
    SumBiasGradient(batch_, outputs_, pass.d_y_planes->floats(), pass.d_bias);
  }
}

void SmallImageConvolution::BackwardData() const {
  const DataPass& pass = data_;
  if (pass.d_y_planes != weights_.d_y_planes) {
    RunAll(pass.d_y.convert);
    SplitImages(pass.d_y.shape, ImageSide::kOutput, pass.d_y.view.floats(),
                pass.d_y_planes->floats());
  }
  pass.products->Run();
  JoinImages(pass.d_x.shape, ImageSide::kInput, pass.d_x_planes->floats(), nullptr,
             pass.d_x.view.floats());
}

}  // namespace normlab::engine
