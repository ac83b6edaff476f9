#include "engine/dnnl/factory.h"

namespace normlab::engine {

absl::StatusOr<Op> MakeInnerProductForward(const Runtime& runtime,
                                           const Layout& x,
                                           const Layout& w,
                                           const Layout& y,
                                           bool bias,
                                           bool training) {
  using Primitive = dnnl::inner_product_forward;
  return Build(runtime, "an inner product", [&](const describe::Context& context) {
    const Desc b = PerChannel(y, bias);
    const auto description =
        describe::InnerProductForward(context, ForwardKind(training), D(x), D(w), b, D(y));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kBias, b},
                              {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeInnerProductBackwardData(const Runtime& runtime,
                                                const Layout& d_x,
                                                const Layout& w,
                                                const Layout& d_y,
                                                const Op& forward) {
  using Primitive = dnnl::inner_product_backward_data;
  return Build(runtime, "an inner product's gradient of data", [&](const auto& context) {
    const auto description = describe::InnerProductBackwardData(
        context, D(d_x), D(w), D(d_y), Hint<dnnl::inner_product_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()}});
  });
}

absl::StatusOr<Op> MakeInnerProductBackwardWeights(const Runtime& runtime,
                                                   const Layout& x,
                                                   const Layout& d_w,
                                                   const Layout& d_y,
                                                   bool bias,
                                                   const Op& forward) {
  using Primitive = dnnl::inner_product_backward_weights;
  return Build(runtime, "an inner product's gradient of weights", [&](const auto& context) {
    const Desc d_b = PerChannel(d_y, bias);
    const auto description = describe::InnerProductBackwardWeights(
        context, D(x), D(d_w), d_b, D(d_y), Hint<dnnl::inner_product_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffWeights, description.diff_weights_desc()},
                              {Arg::kDiffBias, d_b}});
  });
}

}  // namespace normlab::engine
