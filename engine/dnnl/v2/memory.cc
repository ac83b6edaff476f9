// Memory descriptors and instruction sets of oneDNN 2.x (2.6 and later).

#include "engine/dnnl/descriptions.h"

namespace normlab::engine::describe {
namespace {

static_assert(DNNL_VERSION_MAJOR == 2, "this file is written for oneDNN 2.x");

std::vector<int64_t> First(int count, const dnnl_dims_t& values) {
  return {values, values + count};
}

}  // namespace

std::vector<int64_t> Dims(const Desc& desc) {
  return First(desc.data.ndims, desc.data.dims);
}

dnnl::memory::data_type Type(const Desc& desc) {
  return desc.data_type();
}

std::optional<Blocking> BlockingOf(const Desc& desc) {
  const dnnl_memory_desc_t& data = desc.data;
  if (data.format_kind != dnnl_blocked || data.offset0 != 0) {
    return std::nullopt;
  }
  const dnnl_blocking_desc_t& format = data.format_desc.blocking;
  return Blocking{First(data.ndims, data.dims), First(data.ndims, data.padded_dims),
                  First(data.ndims, format.strides), First(format.inner_nblks, format.inner_blks),
                  First(format.inner_nblks, format.inner_idxs)};
}

Desc WithType(const Desc& desc, dnnl::memory::data_type type) {
  dnnl_memory_desc_t data = desc.data;
  if (data.format_kind != dnnl_blocked && data.format_kind != dnnl_format_kind_any) {
    return Desc();
  }
  data.data_type = dnnl::memory::convert_to_c(type);
  return Desc(data);
}

const char* IsaName(dnnl_cpu_isa_t isa) {
  switch (isa) {
    case dnnl_cpu_isa_sse41:
      return "SSE41";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2_VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX512_CORE";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX512_CORE_VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX512_CORE_BF16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX512_CORE_AMX";
    default:
      return nullptr;
  }
}

bool HasBf16(dnnl_cpu_isa_t isa) {
  // An instruction set's value has the bits of those that it includes.
  return (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

bool HasWinograd(dnnl_cpu_isa_t isa) {
  return (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

}  // namespace normlab::engine::describe
