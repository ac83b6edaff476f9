#include "engine/dnnl/factory.h"

namespace normlab::engine {
namespace {

dnnl::algorithm Algorithm(bool max) {
  return max ? dnnl::algorithm::pooling_max : dnnl::algorithm::pooling_avg_exclude_padding;
}

describe::Window ToWindow(const WindowGeometry& geometry) {
  return {.kernel = {geometry.kernel, geometry.kernel_width.value_or(geometry.kernel)},
          .strides = dnnl::memory::dims(2, geometry.stride),
          .padding = dnnl::memory::dims(2, geometry.padding)};
}

}  // namespace

absl::StatusOr<Op> MakePoolForward(const Runtime& runtime,
                                   bool max,
                                   const WindowGeometry& geometry,
                                   const Layout& x,
                                   const Layout& y,
                                   bool training) {
  using Primitive = dnnl::pooling_forward;
  return Build(runtime, "a pooling", [&](const describe::Context& context) {
    const auto description = describe::PoolForward(context, ForwardKind(training), Algorithm(max),
                                                   ToWindow(geometry), D(x), D(y));
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
  return Build(runtime, "a pooling's gradient", [&](const describe::Context& context) {
    const auto description =
        describe::PoolBackward(context, Algorithm(max), ToWindow(geometry), D(d_x), D(d_y),
                               Hint<dnnl::pooling_forward>(forward));
    return Finish<Primitive>(runtime, description,
                             {{Arg::kDiffDestination, description.diff_dst_desc()},
                              {Arg::kDiffSource, description.diff_src_desc()},
                              {Arg::kWorkspace, description.workspace_desc()}});
  });
}

}  // namespace normlab::engine
