// Memory descriptors and instruction sets of oneDNN 3.x.

#include "engine/dnnl/descriptions.h"

namespace normlab::engine::describe {
namespace {

static_assert(DNNL_VERSION_MAJOR == 3, "this file is written for oneDNN 3.x");

// The desc of `tag`; empty when the tag is for another number of axes. The C function, because the
// C++ one would throw for most tags.
Desc OfTag(const std::vector<int64_t>& dims, dnnl::memory::data_type type, int tag) {
  dnnl_memory_desc_t desc = nullptr;
  const dnnl_status_t status = dnnl_memory_desc_create_with_tag(
      &desc, static_cast<int>(dims.size()), dims.data(), dnnl::memory::convert_to_c(type),
      static_cast<dnnl_format_tag_t>(tag));
  return status == dnnl_success ? Desc(desc) : Desc();
}

}  // namespace

std::vector<int64_t> Dims(const Desc& desc) {
  return desc.get_dims();
}

dnnl::memory::data_type Type(const Desc& desc) {
  return desc.get_data_type();
}

std::optional<Blocking> BlockingOf(const Desc& desc) {
  if (desc.get_format_kind() != dnnl::memory::format_kind::blocked ||
      desc.get_submemory_offset() != 0) {
    return std::nullopt;
  }
  return Blocking{desc.get_dims(), desc.get_padded_dims(), desc.get_strides(),
                  desc.get_inner_blks(), desc.get_inner_idxs()};
}

Desc WithType(const Desc& desc, dnnl::memory::data_type type) {
  const std::vector<int64_t> dims = desc.get_dims();
  if (desc.get_format_kind() == dnnl::memory::format_kind::any) {
    return Desc(dims, type, dnnl::memory::format_tag::any);
  }
  const std::optional<Blocking> blocking = BlockingOf(desc);
  if (!blocking.has_value()) {
    return Desc();
  }
  if (blocking->inner_blocks.empty()) {
    return Desc(dims, type, blocking->strides);
  }
  // 3.x neither changes the type of a blocked desc nor makes one of blocks: the tag has to be found.
  const dnnl::memory::data_type from = desc.get_data_type();
  for (int tag = dnnl_format_tag_any + 1; tag < dnnl_format_tag_last; ++tag) {
    if (OfTag(dims, from, tag) == desc) {
      return OfTag(dims, type, tag);
    }
  }
  return Desc();
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
    case dnnl_cpu_isa_avx2_vnni_2:
      return "AVX2_VNNI_2";
    case dnnl_cpu_isa_avx512_core:
      return "AVX512_CORE";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX512_CORE_VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX512_CORE_BF16";
    case dnnl_cpu_isa_avx512_core_fp16:
      return "AVX512_CORE_FP16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX512_CORE_AMX";
    case dnnl_cpu_isa_avx512_core_amx_fp16:
      return "AVX512_CORE_AMX_FP16";
    default:
      return nullptr;
  }
}

bool HasBf16(dnnl_cpu_isa_t isa) {
  // An instruction set's value has the bits of those that it includes.
  return (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core ||
         (isa & dnnl_cpu_isa_avx2_vnni_2) == dnnl_cpu_isa_avx2_vnni_2;
}

bool HasWinograd(dnnl_cpu_isa_t /*isa*/) {
  return false;  // 3.x dropped the kernels of x86
}

}  // namespace normlab::engine::describe
