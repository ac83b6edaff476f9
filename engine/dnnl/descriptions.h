#pragma once

// Everything that differs between oneDNN's major versions, for the .cc files of this folder only:
// how memory and primitives are described. v2/ and v3/ each define these functions; CMake compiles
// the folder of the version found. Functions that return a primitive descriptor throw dnnl::error
// (see Guarded). An empty `Desc` as a bias means none.

#include <cstdint>
#include <optional>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

#include "engine/dnnl/data_type.h"

namespace normlab::engine::describe {

using Desc = dnnl::memory::desc;

inline dnnl::memory::data_type ToDnnl(DataType type) {
  return type == DataType::kBf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

// Where the elements of a tensor lie: outer strides by axis, then inner blocks, outermost first.
struct Blocking {
  std::vector<int64_t> dims;
  std::vector<int64_t> padded_dims;
  std::vector<int64_t> strides;
  std::vector<int64_t> inner_blocks;
  std::vector<int64_t> inner_axes;  // the axis that each inner block belongs to
};

std::vector<int64_t> Dims(const Desc& desc);
dnnl::memory::data_type Type(const Desc& desc);
// nullopt: not chosen yet (`any`), not disclosed by the library, or with an offset.
std::optional<Blocking> BlockingOf(const Desc& desc);
// The same order in memory; empty when the library does not disclose it.
Desc WithType(const Desc& desc, dnnl::memory::data_type type);

// "AVX2"; null for one that this version's headers do not know.
const char* IsaName(dnnl_cpu_isa_t isa);
// Whether this version computes in bf16 on the instruction set, in hardware or emulated.
bool HasBf16(dnnl_cpu_isa_t isa);
// Whether this version has Winograd convolutions for the instruction set.
bool HasWinograd(dnnl_cpu_isa_t isa);

// What every primitive is made with.
struct Context {
  const dnnl::engine& engine;
  const dnnl::primitive_attr& attributes;
};

struct Window {
  dnnl::memory::dims kernel;  // pooling only
  dnnl::memory::dims strides;
  dnnl::memory::dims padding;  // before and after
};

dnnl::inner_product_forward::primitive_desc InnerProductForward(const Context& context,
                                                                dnnl::prop_kind kind,
                                                                const Desc& x,
                                                                const Desc& w,
                                                                const Desc& bias,
                                                                const Desc& y);
dnnl::inner_product_backward_data::primitive_desc InnerProductBackwardData(
    const Context& context,
    const Desc& d_x,
    const Desc& w,
    const Desc& d_y,
    const dnnl::inner_product_forward::primitive_desc& forward);
dnnl::inner_product_backward_weights::primitive_desc InnerProductBackwardWeights(
    const Context& context,
    const Desc& x,
    const Desc& d_w,
    const Desc& d_bias,
    const Desc& d_y,
    const dnnl::inner_product_forward::primitive_desc& forward);

dnnl::matmul::primitive_desc MatrixProducts(const Context& context,
                                            const Desc& a,
                                            const Desc& b,
                                            const Desc& c);

dnnl::convolution_forward::primitive_desc ConvolutionForward(const Context& context,
                                                             dnnl::prop_kind kind,
                                                             dnnl::algorithm algorithm,
                                                             const Window& window,
                                                             const Desc& x,
                                                             const Desc& w,
                                                             const Desc& bias,
                                                             const Desc& y);
dnnl::convolution_backward_data::primitive_desc ConvolutionBackwardData(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& d_x,
    const Desc& w,
    const Desc& d_y,
    const dnnl::convolution_forward::primitive_desc& forward);
dnnl::convolution_backward_weights::primitive_desc ConvolutionBackwardWeights(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& x,
    const Desc& d_w,
    const Desc& d_bias,
    const Desc& d_y,
    const dnnl::convolution_forward::primitive_desc& forward);

dnnl::batch_normalization_forward::primitive_desc BatchNormForward(const Context& context,
                                                                   dnnl::prop_kind kind,
                                                                   const Desc& x,
                                                                   float epsilon,
                                                                   dnnl::normalization_flags flags);
dnnl::batch_normalization_backward::primitive_desc BatchNormBackward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    float epsilon,
    dnnl::normalization_flags flags,
    const dnnl::batch_normalization_forward::primitive_desc& forward);

dnnl::layer_normalization_forward::primitive_desc LayerNormForward(const Context& context,
                                                                   dnnl::prop_kind kind,
                                                                   const Desc& x,
                                                                   const Desc& statistics,
                                                                   float epsilon,
                                                                   dnnl::normalization_flags flags);
dnnl::layer_normalization_backward::primitive_desc LayerNormBackward(
    const Context& context,
    dnnl::prop_kind kind,
    const Desc& x,
    const Desc& statistics,
    float epsilon,
    dnnl::normalization_flags flags,
    const dnnl::layer_normalization_forward::primitive_desc& forward);

dnnl::eltwise_forward::primitive_desc EltwiseForward(const Context& context,
                                                     dnnl::prop_kind kind,
                                                     dnnl::algorithm algorithm,
                                                     const Desc& x,
                                                     float alpha);
// `data`: of the source or the destination, whatever the algorithm reads.
dnnl::eltwise_backward::primitive_desc EltwiseBackward(
    const Context& context,
    dnnl::algorithm algorithm,
    const Desc& data,
    float alpha,
    const dnnl::eltwise_forward::primitive_desc& forward);
void AppendRelu(dnnl::post_ops& operations);
dnnl::binary::primitive_desc Binary(
    const Context& context, dnnl::algorithm algorithm, const Desc& a, const Desc& b, const Desc& y);

dnnl::pooling_forward::primitive_desc PoolForward(const Context& context,
                                                  dnnl::prop_kind kind,
                                                  dnnl::algorithm algorithm,
                                                  const Window& window,
                                                  const Desc& x,
                                                  const Desc& y);
dnnl::pooling_backward::primitive_desc PoolBackward(
    const Context& context,
    dnnl::algorithm algorithm,
    const Window& window,
    const Desc& d_x,
    const Desc& d_y,
    const dnnl::pooling_forward::primitive_desc& forward);

}  // namespace normlab::engine::describe
