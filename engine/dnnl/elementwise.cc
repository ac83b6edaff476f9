#include "engine/dnnl/factory.h"

namespace normlab::engine {
namespace {

// Where there is one, the variant whose backward pass needs the output, not the input: then a layer
// need not keep its input.
dnnl::algorithm Algorithm(EltwiseKind kind) {
  switch (kind) {
    case EltwiseKind::kRelu:
    case EltwiseKind::kLeakyRelu:
      return dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
    case EltwiseKind::kElu:
      return dnnl::algorithm::eltwise_elu_use_dst_for_bwd;
    case EltwiseKind::kSigmoid:
      return dnnl::algorithm::eltwise_logistic_use_dst_for_bwd;
    case EltwiseKind::kTanh:
      return dnnl::algorithm::eltwise_tanh_use_dst_for_bwd;
    case EltwiseKind::kGelu:
      return dnnl::algorithm::eltwise_gelu_erf;
    case EltwiseKind::kSwish:
      return dnnl::algorithm::eltwise_swish;
  }
  return dnnl::algorithm::undef;
}

// oneDNN's alpha of a kind, for which ours is `alpha`.
float Alpha(EltwiseKind kind, float alpha) {
  switch (kind) {
    case EltwiseKind::kLeakyRelu:
    case EltwiseKind::kElu:
      return alpha;
    case EltwiseKind::kSwish:
      return 1;  // x sigmoid(alpha x)
    default:
      return 0;
  }
}

}  // namespace

Arg EltwiseBackwardFrom(EltwiseKind kind) {
  const bool from_source = kind == EltwiseKind::kGelu || kind == EltwiseKind::kSwish;
  return from_source ? Arg::kSource : Arg::kDestination;
}

absl::StatusOr<Op> MakeEltwiseForward(
    const Runtime& runtime, EltwiseKind kind, const Layout& x, bool training, float alpha) {
  using Primitive = dnnl::eltwise_forward;
  return Build(runtime, "an activation", [&](const describe::Context& context) {
    const auto description = describe::EltwiseForward(context, ForwardKind(training),
                                                      Algorithm(kind), D(x), Alpha(kind, alpha));
    return Finish<Primitive>(
        runtime, description,
        {{Arg::kSource, description.src_desc()}, {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeEltwiseBackward(
    const Runtime& runtime, EltwiseKind kind, const Layout& data, const Op& forward, float alpha) {
  using Primitive = dnnl::eltwise_backward;
  return Build(runtime, "an activation's gradient", [&](const describe::Context& context) {
    const auto description =
        describe::EltwiseBackward(context, Algorithm(kind), D(data), Alpha(kind, alpha),
                                  Hint<dnnl::eltwise_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{EltwiseBackwardFrom(kind), D(data)},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()}});
  });
}

absl::StatusOr<Op> MakeAdd(const Runtime& runtime, const Layout& layout, bool fuse_relu) {
  return Guarded("an addition", [&]() -> absl::StatusOr<Op> {
    dnnl::primitive_attr attributes = Attributes();
    if (fuse_relu) {
      dnnl::post_ops operations;
      describe::AppendRelu(operations);
      attributes.set_post_ops(operations);
    }
    const describe::Context context{runtime.impl()->engine, attributes};
    const auto description =
        describe::Binary(context, dnnl::algorithm::binary_add, D(layout), D(layout), D(layout));
    return Finish<dnnl::binary>(
        runtime, description,
        {{Arg::kSource, D(layout)}, {Arg::kSource1, D(layout)}, {Arg::kDestination, D(layout)}});
  });
}

}  // namespace normlab::engine
