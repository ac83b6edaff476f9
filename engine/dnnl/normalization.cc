#include "engine/dnnl/factory.h"

namespace normlab::engine {
namespace {

// Both kinds of options have these two members.
template <typename Options>
dnnl::normalization_flags CommonFlags(const Options& options) {
  auto flags = dnnl::normalization_flags::none;
  if (options.affine) {
    // Split scale and shift: gamma and beta lie apart in the arena.
    flags |= dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
  }
  if (options.given_statistics) {
    flags |= dnnl::normalization_flags::use_global_stats;
  }
  return flags;
}

dnnl::normalization_flags Flags(const BatchNormOptions& options) {
  auto flags = CommonFlags(options);
  if (options.fuse_relu) {
    flags |= dnnl::normalization_flags::fuse_norm_relu;
  }
  return flags;
}

dnnl::prop_kind BackwardKind(bool affine) {
  return affine ? dnnl::prop_kind::backward : dnnl::prop_kind::backward_data;
}

// What a backward pass of either takes; `statistics` and `affine` are the shapes of its vectors.
template <typename Primitive>
absl::StatusOr<Op> FinishBackward(const Runtime& runtime,
                                  const typename Primitive::primitive_desc& description,
                                  const Desc& statistics,
                                  const Desc& affine) {
  // The mathematics does not use beta. Whether it has to be given all the same differs between
  // primitives and versions, but the library tells how many inputs it counts.
  int inputs = 0;
  dnnl::error::wrap_c_api(
      dnnl_primitive_desc_query(description.get(), dnnl_query_num_of_inputs_s32, 0, &inputs),
      "could not count the inputs of a normalizer");
  const bool has_scale = affine.get_size() > 0;
  const bool has_workspace = description.workspace_desc().get_size() > 0;
  const int inputs_but_shift = 4 + (has_scale ? 1 : 0) + (has_workspace ? 1 : 0);
  const bool takes_shift = inputs > inputs_but_shift;
  return Finish<Primitive>(runtime, description,
                           {{Arg::kSource, description.src_desc()},
                            {Arg::kMean, statistics},
                            {Arg::kVariance, statistics},
                            {Arg::kScale, affine},
                            {Arg::kShift, takes_shift ? affine : Desc()},
                            {Arg::kWorkspace, description.workspace_desc()},
                            {Arg::kDiffDestination, description.diff_dst_desc()},
                            {Arg::kDiffSource, description.diff_src_desc()},
                            {Arg::kDiffScale, affine},
                            {Arg::kDiffShift, affine}});
}

}  // namespace

absl::StatusOr<Op> MakeBatchNormForward(const Runtime& runtime,
                                        const BatchNormOptions& options,
                                        const Layout& x) {
  using Primitive = dnnl::batch_normalization_forward;
  return Build(runtime, "a batch norm", [&](const describe::Context& context) {
    const auto description = describe::BatchNormForward(
        context, ForwardKind(!options.given_statistics), D(x), options.epsilon, Flags(options));
    const Desc channels = PerChannel(x);
    const Desc affine = PerChannel(x, options.affine);
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
  return Build(runtime, "a batch norm's gradient", [&](const describe::Context& context) {
    const auto description = describe::BatchNormBackward(
        context, BackwardKind(options.affine), D(x), options.epsilon, Flags(options),
        Hint<dnnl::batch_normalization_forward>(forward));
    return FinishBackward<Primitive>(runtime, description, PerChannel(x),
                                     PerChannel(x, options.affine));
  });
}

absl::StatusOr<Op> MakeLayerNormForward(const Runtime& runtime,
                                        const LayerNormOptions& options,
                                        const Layout& x,
                                        bool training) {
  using Primitive = dnnl::layer_normalization_forward;
  return Build(runtime, "a layer norm", [&](const describe::Context& context) {
    const Desc rows = Vector(x.dims()[0]);
    const auto description = describe::LayerNormForward(context, ForwardKind(training), D(x), rows,
                                                        options.epsilon, CommonFlags(options));
    const Desc statistics = training || options.given_statistics ? rows : Desc();
    const Desc affine = PerChannel(x, options.affine);
    return Finish<Primitive>(runtime, description,
                             {{Arg::kSource, description.src_desc()},
                              {Arg::kMean, statistics},
                              {Arg::kVariance, statistics},
                              {Arg::kScale, affine},
                              {Arg::kShift, affine},
                              {Arg::kDestination, description.dst_desc()}});
  });
}

absl::StatusOr<Op> MakeLayerNormBackward(const Runtime& runtime,
                                         const LayerNormOptions& options,
                                         const Layout& x,
                                         const Op& forward) {
  using Primitive = dnnl::layer_normalization_backward;
  return Build(runtime, "a layer norm's gradient", [&](const describe::Context& context) {
    const Desc rows = Vector(x.dims()[0]);
    const auto description = describe::LayerNormBackward(
        context, BackwardKind(options.affine), D(x), rows, options.epsilon, CommonFlags(options),
        Hint<dnnl::layer_normalization_forward>(forward));
    return FinishBackward<Primitive>(runtime, description, rows, PerChannel(x, options.affine));
  });
}

}  // namespace normlab::engine
