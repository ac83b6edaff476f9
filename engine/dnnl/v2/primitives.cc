// Primitives of oneDNN 2.x: an operation descriptor each, from which the primitive descriptor is
// made.

#include "engine/dnnl/descriptions.h"

namespace normlab::engine::describe {
namespace {

static_assert(DNNL_VERSION_MAJOR == 2, "this file is written for oneDNN 2.x");

template <typename Primitive, typename... Parts>
typename Primitive::primitive_desc Forward(const Context& context, const Parts&... parts) {
  return {typename Primitive::desc(parts...), context.attributes, context.engine};
}

template <typename Primitive, typename Hint, typename... Parts>
typename Primitive::primitive_desc Backward(const Context& context,
                                            const Hint& forward,
                                            const Parts&... parts) {
  return {typename Primitive::desc(parts...), context.attributes, context.engine, forward};
}

}  // namespace

dnnl::inner_product_forward::primitive_desc InnerProductForward(const Context& context,
                                                                dnnl::prop_kind kind,
                                                                const Desc& x,
                                                                const Desc& w,
                                                                const Desc& bias,
                                                                const Desc& y) {
  return Forward<dnnl::inner_product_forward>(context, kind, x, w, bias, y);
}

dnnl::inner_product_backward_data::primitive_desc InnerProductBackwardData(
    const Context& context,
    const Desc& d_x,
    const Desc& w,
    const Desc& d_y,
    const dnnl::inner_product_forward::primitive_desc& forward) {
  return Backward<dnnl::inner_product_backward_data>(context, forward, d_x, w, d_y);
}

dnnl::inner_product_backward_weights::primitive_desc InnerProductBackwardWeights(
    const Context& context,
    const Desc& x,
    const Desc& d_w,
    const Desc& d_bias,
    const Desc& d_y,
    const dnnl::inner_product_forward::primitive_desc& forward) {
  return Backward<dnnl::inner_product_backward_weights>(context, forward, x, d_w, d_bias, d_y);
}

dnnl::convolution_forward::primitive_desc ConvolutionForward(const Context& context,
                                                             dnnl::prop_kind kind,
                                                             dnnl::algorithm algorithm,
                                                             const Window& window,
                                                             const Desc& x,
                                                             const Desc& w,
                                                             const Desc& bias,
                                                             const Desc& y) {
  return Forward<dnnl::convolution_forward>(context, kind, algorithm, x, w, bias, y, window.strides,
                                            window.padding, window.padding);
}

dnnl::convolution_backward_data::primitive_desc ConvolutionBackwardData(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& d_x,
    const Desc& w,
    const Desc& d_y,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return Backward<dnnl::convolution_backward_data>(context, forward, algorithm, d_x, w, d_y,
                                                   window.strides, window.padding, window.padding);
}

dnnl::convolution_backward_weights::primitive_desc ConvolutionBackwardWeights(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& x,
    const Desc& d_w,
    const Desc& d_bias,
    const Desc& d_y,
    const dnnl::convolution_forward::primitive_desc& forward) {
  return Backward<dnnl::convolution_backward_weights>(context, forward, algorithm, x, d_w, d_bias,
                                                      d_y, window.strides, window.padding,
                                                      window.padding);
}

dnnl::batch_normalization_forward::primitive_desc BatchNormForward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    float epsilon,
    dnnl::normalization_flags flags) {
  return Forward<dnnl::batch_normalization_forward>(context, kind, x, epsilon, flags);
}

dnnl::batch_normalization_backward::primitive_desc BatchNormBackward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    float epsilon,
    dnnl::normalization_flags flags,
    const dnnl::batch_normalization_forward::primitive_desc& forward) {
  return Backward<dnnl::batch_normalization_backward>(context, forward, kind, x, x, epsilon, flags);
}

dnnl::layer_normalization_forward::primitive_desc LayerNormForward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    const Desc& statistics,
    float epsilon,
    dnnl::normalization_flags flags) {
  return Forward<dnnl::layer_normalization_forward>(context, kind, x, statistics, epsilon, flags);
}

dnnl::layer_normalization_backward::primitive_desc LayerNormBackward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    const Desc& statistics,
    float epsilon,
    dnnl::normalization_flags flags,
    const dnnl::layer_normalization_forward::primitive_desc& forward) {
  return Backward<dnnl::layer_normalization_backward>(context, forward, kind, x, x, statistics,
                                                      epsilon, flags);
}

dnnl::eltwise_forward::primitive_desc EltwiseForward(const Context& context,
                                                     dnnl::prop_kind kind,
                                                     dnnl::algorithm algorithm,
                                                     const Desc& x,
                                                     float alpha) {
  return Forward<dnnl::eltwise_forward>(context, kind, algorithm, x, alpha);
}

dnnl::eltwise_backward::primitive_desc EltwiseBackward(
    const Context& context,
    dnnl::algorithm algorithm,
    const Desc& data,
    float alpha,
    const dnnl::eltwise_forward::primitive_desc& forward) {
  return Backward<dnnl::eltwise_backward>(context, forward, algorithm, data, data, alpha);
}

void AppendRelu(dnnl::post_ops& operations) {
  operations.append_eltwise(/*scale=*/1, dnnl::algorithm::eltwise_relu, /*alpha=*/0, /*beta=*/0);
}

dnnl::binary::primitive_desc Binary(const Context& context,
                                    dnnl::algorithm algorithm,
                                    const Desc& a,
                                    const Desc& b,
                                    const Desc& y) {
  return Forward<dnnl::binary>(context, algorithm, a, b, y);
}

dnnl::matmul::primitive_desc MatrixProducts(const Context& context,
                                            const Desc& a,
                                            const Desc& b,
                                            const Desc& c) {
  return Forward<dnnl::matmul>(context, a, b, c);
}

dnnl::pooling_forward::primitive_desc PoolForward(const Context& context,
                                                  dnnl::prop_kind kind,
                                                  dnnl::algorithm algorithm,
                                                  const Window& window,
                                                  const Desc& x,
                                                  const Desc& y) {
  return Forward<dnnl::pooling_forward>(context, kind, algorithm, x, y, window.strides,
                                        window.kernel, window.padding, window.padding);
}

dnnl::pooling_backward::primitive_desc PoolBackward(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& d_x,
    const Desc& d_y,
    const dnnl::pooling_forward::primitive_desc& forward) {
  return Backward<dnnl::pooling_backward>(context, forward, algorithm, d_x, d_y, window.strides,
                                          window.kernel, window.padding, window.padding);
}

}  // namespace normlab::engine::describe
