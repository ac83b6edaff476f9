#include "engine/dnnl/factory.h"

namespace normlab::engine {
namespace {

dnnl::algorithm Algorithm(ConvAlgorithm algorithm) {
  return algorithm == ConvAlgorithm::kWinograd ? dnnl::algorithm::convolution_winograd
                                               : dnnl::algorithm::convolution_direct;
}

describe::Window ToWindow(const WindowGeometry& geometry) {
  return {.kernel = {},
          .strides = dnnl::memory::dims(2, geometry.stride),
          .padding = dnnl::memory::dims(2, geometry.padding)};
}

std::string Named(ConvAlgorithm algorithm, absl::string_view pass) {
  return absl::StrCat("a ", algorithm == ConvAlgorithm::kWinograd ? "Winograd " : "", "convolution",
                      pass);
}

}  // namespace

absl::StatusOr<Op> MakeConvolutionForward(const Runtime& runtime,
                                          const WindowGeometry& geometry,
                                          const Layout& x,
                                          const Layout& w,
                                          const Layout& y,
                                          bool bias,
                                          bool training,
                                          ConvAlgorithm algorithm) {
  using Primitive = dnnl::convolution_forward;
  return Build(runtime, Named(algorithm, ""), [&](const describe::Context& context) {
    const Desc b = PerChannel(y, bias);
    const auto description =
        describe::ConvolutionForward(context, ForwardKind(training), Algorithm(algorithm),
                                     ToWindow(geometry), D(x), D(w), b, D(y));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kBias, b},
                              {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeConvolutionBackwardData(const Runtime& runtime,
                                               const WindowGeometry& geometry,
                                               const Layout& d_x,
                                               const Layout& w,
                                               const Layout& d_y,
                                               const Op& forward,
                                               ConvAlgorithm algorithm) {
  using Primitive = dnnl::convolution_backward_data;
  return Build(runtime, Named(algorithm, "'s gradient of data"), [&](const auto& context) {
    const auto description =
        describe::ConvolutionBackwardData(context, Algorithm(algorithm), ToWindow(geometry), D(d_x),
                                          D(w), D(d_y), Hint<dnnl::convolution_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()}});
  });
}

absl::StatusOr<Op> MakeConvolutionBackwardWeights(const Runtime& runtime,
                                                  const WindowGeometry& geometry,
                                                  const Layout& x,
                                                  const Layout& d_w,
                                                  const Layout& d_y,
                                                  bool bias,
                                                  const Op& forward,
                                                  ConvAlgorithm algorithm) {
  using Primitive = dnnl::convolution_backward_weights;
  return Build(runtime, Named(algorithm, "'s gradient of weights"), [&](const auto& context) {
    const Desc d_b = PerChannel(d_y, bias);
    const auto description = describe::ConvolutionBackwardWeights(
        context, Algorithm(algorithm), ToWindow(geometry), D(x), D(d_w), d_b, D(d_y),
        Hint<dnnl::convolution_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffWeights, description.diff_weights_desc()},
                              {Arg::kDiffBias, d_b}});
  });
}

}  // namespace normlab::engine
