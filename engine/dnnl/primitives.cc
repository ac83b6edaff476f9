// Everything that differs between oneDNN versions: how primitives are described and built, and
// which arguments they take. Written for 2.x; another major version gets a file of its own with the
// same functions.

#include "engine/dnnl/primitives.h"

#include <initializer_list>
#include <memory>
#include <utility>

#include "engine/dnnl/internal.h"

namespace normlab::engine {
namespace {

static_assert(DNNL_VERSION_MAJOR == 2, "this file is written for oneDNN 2.x");

using Desc = dnnl::memory::desc;

const Desc& D(const Layout& layout) {
  return layout.impl().desc;
}

Desc AnyVector(int64_t size) {
  return Desc({size}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a);
}

Desc Vector(const Desc& of_rows) {
  return AnyVector(of_rows.dims()[0]);
}

dnnl::primitive_attr Attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

dnnl::prop_kind ForwardKind(bool training) {
  return training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
}

// Wraps a primitive descriptor; arguments of zero size are left out.
template <typename Primitive, typename PrimitiveDesc>
absl::StatusOr<Op> Finish(const Runtime& runtime,
                          const PrimitiveDesc& description,
                          std::initializer_list<std::pair<Arg, Desc>> arguments) {
  auto impl = std::make_unique<Op::Impl>();
  impl->runtime = runtime.impl();
  impl->primitive = Primitive(description);
  impl->forward_hint = description;
  impl->implementation = description.impl_info_str();
  for (const auto& [arg, desc] : arguments) {
    if (desc.get_size() > 0) {
      impl->slots.push_back({arg, desc, nullptr, dnnl::memory()});
    }
  }
  const Desc scratchpad = description.scratchpad_desc();
  if (scratchpad.get_size() > 0) {
    impl->slots.push_back({Arg::kScratchpad, scratchpad, nullptr, dnnl::memory()});
  }
  return Op(std::move(impl));
}

template <typename Primitive>
const typename Primitive::primitive_desc& Hint(const Op& forward) {
  return std::any_cast<const typename Primitive::primitive_desc&>(forward.impl().forward_hint);
}

dnnl::normalization_flags Flags(const BatchNormOptions& options) {
  auto flags = dnnl::normalization_flags::none;
  if (options.affine) {
    // Split scale and shift: gamma and beta lie apart in the arena.
    flags |= dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
  }
  if (options.fuse_relu) {
    flags |= dnnl::normalization_flags::fuse_norm_relu;
  }
  if (options.given_statistics) {
    flags |= dnnl::normalization_flags::use_global_stats;
  }
  return flags;
}

// The variants whose backward pass needs the output, not the input.
dnnl::algorithm Algorithm(EltwiseKind kind) {
  switch (kind) {
    case EltwiseKind::kRelu:
      return dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
    case EltwiseKind::kSigmoid:
      return dnnl::algorithm::eltwise_logistic_use_dst_for_bwd;
    case EltwiseKind::kTanh:
      return dnnl::algorithm::eltwise_tanh_use_dst_for_bwd;
  }
  return dnnl::algorithm::undef;
}

dnnl::algorithm PoolAlgorithm(bool max) {
  return max ? dnnl::algorithm::pooling_max : dnnl::algorithm::pooling_avg_exclude_padding;
}

}  // namespace

absl::StatusOr<Op> MakeReorder(const Runtime& runtime, const Layout& from, const Layout& to) {
  return Guarded("a reorder", [&]() -> absl::StatusOr<Op> {
    const dnnl::engine& engine = runtime.impl()->engine;
    const dnnl::reorder::primitive_desc description(engine, D(from), engine, D(to), Attributes());
    return Finish<dnnl::reorder>(runtime, description,
                                 {{Arg::kSource, D(from)}, {Arg::kDestination, D(to)}});
  });
}

absl::StatusOr<Op> MakeInnerProductForward(const Runtime& runtime,
                                           const Layout& x,
                                           const Layout& w,
                                           const Layout& y,
                                           bool bias,
                                           bool training) {
  using Primitive = dnnl::inner_product_forward;
  return Guarded("an inner product", [&]() -> absl::StatusOr<Op> {
    const dnnl::prop_kind kind = ForwardKind(training);
    const Primitive::desc desc = bias ? Primitive::desc(kind, D(x), D(w), Vector(D(w)), D(y))
                                      : Primitive::desc(kind, D(x), D(w), D(y));
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine);
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kBias, bias ? description.bias_desc() : Desc()},
                              {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeInnerProductBackwardData(const Runtime& runtime,
                                                const Layout& d_x,
                                                const Layout& w,
                                                const Layout& d_y,
                                                const Op& forward) {
  using Primitive = dnnl::inner_product_backward_data;
  return Guarded("an inner product's gradient of data", [&]() -> absl::StatusOr<Op> {
    const Primitive::primitive_desc description(Primitive::desc(D(d_x), D(w), D(d_y)), Attributes(),
                                                runtime.impl()->engine,
                                                Hint<dnnl::inner_product_forward>(forward));
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
  return Guarded("an inner product's gradient of weights", [&]() -> absl::StatusOr<Op> {
    const Primitive::desc desc = bias ? Primitive::desc(D(x), D(d_w), Vector(D(d_w)), D(d_y))
                                      : Primitive::desc(D(x), D(d_w), D(d_y));
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::inner_product_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffWeights, description.diff_weights_desc()},
                              {Arg::kDiffBias, bias ? description.diff_bias_desc() : Desc()}});
  });
}

absl::StatusOr<Op> MakeConvolutionForward(const Runtime& runtime,
                                          const WindowGeometry& geometry,
                                          const Layout& x,
                                          const Layout& w,
                                          const Layout& y,
                                          bool bias,
                                          bool training) {
  using Primitive = dnnl::convolution_forward;
  return Guarded("a convolution", [&]() -> absl::StatusOr<Op> {
    const dnnl::prop_kind kind = ForwardKind(training);
    const dnnl::memory::dims strides(2, geometry.stride);
    const dnnl::memory::dims padding(2, geometry.padding);
    constexpr auto kDirect = dnnl::algorithm::convolution_direct;
    const Primitive::desc desc =
        bias ? Primitive::desc(kind, kDirect, D(x), D(w), Vector(D(w)), D(y), strides, padding,
                               padding)
             : Primitive::desc(kind, kDirect, D(x), D(w), D(y), strides, padding, padding);
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine);
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kWeights, description.weights_desc()},
                              {Arg::kBias, bias ? description.bias_desc() : Desc()},
                              {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeConvolutionBackwardData(const Runtime& runtime,
                                               const WindowGeometry& geometry,
                                               const Layout& d_x,
                                               const Layout& w,
                                               const Layout& d_y,
                                               const Op& forward) {
  using Primitive = dnnl::convolution_backward_data;
  return Guarded("a convolution's gradient of data", [&]() -> absl::StatusOr<Op> {
    const dnnl::memory::dims strides(2, geometry.stride);
    const dnnl::memory::dims padding(2, geometry.padding);
    const Primitive::desc desc(dnnl::algorithm::convolution_direct, D(d_x), D(w), D(d_y), strides,
                               padding, padding);
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::convolution_forward>(forward));
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
                                                  const Op& forward) {
  using Primitive = dnnl::convolution_backward_weights;
  return Guarded("a convolution's gradient of weights", [&]() -> absl::StatusOr<Op> {
    const dnnl::memory::dims strides(2, geometry.stride);
    const dnnl::memory::dims padding(2, geometry.padding);
    constexpr auto kDirect = dnnl::algorithm::convolution_direct;
    const Primitive::desc desc =
        bias ? Primitive::desc(kDirect, D(x), D(d_w), Vector(D(d_w)), D(d_y), strides, padding,
                               padding)
             : Primitive::desc(kDirect, D(x), D(d_w), D(d_y), strides, padding, padding);
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::convolution_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffWeights, description.diff_weights_desc()},
                              {Arg::kDiffBias, bias ? description.diff_bias_desc() : Desc()}});
  });
}

absl::StatusOr<Op> MakeBatchNormForward(const Runtime& runtime,
                                        const BatchNormOptions& options,
                                        const Layout& x) {
  using Primitive = dnnl::batch_normalization_forward;
  return Guarded("a batch norm", [&]() -> absl::StatusOr<Op> {
    const Primitive::desc desc(ForwardKind(!options.given_statistics), D(x), options.epsilon,
                               Flags(options));
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine);
    const Desc channels = AnyVector(D(x).dims()[1]);
    const Desc affine = options.affine ? channels : Desc();
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kMean, channels},
                              {Arg::kVariance, channels},
                              {Arg::kScale, affine},
                              {Arg::kShift, affine},
                              {Arg::kDestination, description.dst_desc()},
                              {Arg::kWorkspace, description.workspace_desc()}});
  });
}

absl::StatusOr<Op> MakeBatchNormBackward(const Runtime& runtime,
                                         const BatchNormOptions& options,
                                         const Layout& x,
                                         const Op& forward) {
  using Primitive = dnnl::batch_normalization_backward;
  return Guarded("a batch norm's gradient", [&]() -> absl::StatusOr<Op> {
    const dnnl::prop_kind kind =
        options.affine ? dnnl::prop_kind::backward : dnnl::prop_kind::backward_data;
    const Primitive::desc desc(kind, D(x), D(x), options.epsilon, Flags(options));
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::batch_normalization_forward>(forward));
    const Desc channels = AnyVector(D(x).dims()[1]);
    const Desc affine = options.affine ? channels : Desc();
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kMean, channels},
                              {Arg::kVariance, channels},
                              {Arg::kScale, affine},
                              // Not used by the mathematics, but 2.6 cannot execute without it.
                              {Arg::kShift, affine},
                              {Arg::kWorkspace, description.workspace_desc()},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()},
                              {Arg::kDiffScale, affine},
                              {Arg::kDiffShift, affine}});
  });
}

absl::StatusOr<Op> MakeEltwiseForward(const Runtime& runtime,
                                      EltwiseKind kind,
                                      const Layout& x,
                                      bool training) {
  using Primitive = dnnl::eltwise_forward;
  return Guarded("an activation", [&]() -> absl::StatusOr<Op> {
    const Primitive::primitive_desc description(
        Primitive::desc(ForwardKind(training), Algorithm(kind), D(x)), Attributes(),
        runtime.impl()->engine);
    return Finish<Primitive>(
        runtime, description,
        {{Arg::kSource, description.src_desc()}, {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeEltwiseBackward(const Runtime& runtime,
                                       EltwiseKind kind,
                                       const Layout& y,
                                       const Op& forward) {
  using Primitive = dnnl::eltwise_backward;
  return Guarded("an activation's gradient", [&]() -> absl::StatusOr<Op> {
    const Primitive::primitive_desc description(Primitive::desc(Algorithm(kind), D(y), D(y)),
                                                Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::eltwise_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kDestination, D(y)},
                              {Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()}});
  });
}

absl::StatusOr<Op> MakePoolForward(const Runtime& runtime,
                                   bool max,
                                   const WindowGeometry& geometry,
                                   const Layout& x,
                                   const Layout& y,
                                   bool training) {
  using Primitive = dnnl::pooling_forward;
  return Guarded("a pooling", [&]() -> absl::StatusOr<Op> {
    const dnnl::memory::dims strides(2, geometry.stride);
    const dnnl::memory::dims kernel(2, geometry.kernel);
    const dnnl::memory::dims padding(2, geometry.padding);
    const Primitive::desc desc(ForwardKind(training), PoolAlgorithm(max), D(x), D(y), strides,
                               kernel, padding, padding);
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine);
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kDestination, description.dst_desc()},
                              {Arg::kWorkspace, description.workspace_desc()}});
  });
}

absl::StatusOr<Op> MakePoolBackward(const Runtime& runtime,
                                    bool max,
                                    const WindowGeometry& geometry,
                                    const Layout& d_x,
                                    const Layout& d_y,
                                    const Op& forward) {
  using Primitive = dnnl::pooling_backward;
  return Guarded("a pooling's gradient", [&]() -> absl::StatusOr<Op> {
    const dnnl::memory::dims strides(2, geometry.stride);
    const dnnl::memory::dims kernel(2, geometry.kernel);
    const dnnl::memory::dims padding(2, geometry.padding);
    const Primitive::desc desc(PoolAlgorithm(max), D(d_x), D(d_y), strides, kernel, padding,
                               padding);
    const Primitive::primitive_desc description(desc, Attributes(), runtime.impl()->engine,
                                                Hint<dnnl::pooling_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()},
                              {Arg::kWorkspace, description.workspace_desc()}});
  });
}

}  // namespace normlab::engine
