#include "engine/dnnl/runtime.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/dnnl/internal.h"

namespace normlab::engine {

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

std::string CpuIsaName() {
  struct Name {
    dnnl_cpu_isa_t isa;
    const char* name;
  };
  constexpr Name kNames[] = {
      {dnnl_cpu_isa_sse41, "SSE41"},
      {dnnl_cpu_isa_avx, "AVX"},
      {dnnl_cpu_isa_avx2, "AVX2"},
      {dnnl_cpu_isa_avx2_vnni, "AVX2_VNNI"},
      {dnnl_cpu_isa_avx512_core, "AVX512_CORE"},
      {dnnl_cpu_isa_avx512_core_vnni, "AVX512_CORE_VNNI"},
      {dnnl_cpu_isa_avx512_core_bf16, "AVX512_CORE_BF16"},
      {dnnl_cpu_isa_avx512_core_amx, "AVX512_CORE_AMX"},
  };
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  for (const Name& entry : kNames) {
    if (entry.isa == isa) {
      return entry.name;
    }
  }
  return absl::StrCat("ISA_", static_cast<unsigned>(isa));
}

absl::StatusOr<Runtime> Runtime::Create() {
  return Guarded("a CPU engine", []() -> absl::StatusOr<Runtime> {
    dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    return Runtime(std::make_shared<const Impl>(Impl{std::move(engine), std::move(stream)}));
  });
}

}  // namespace normlab::engine
