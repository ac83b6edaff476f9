#include "engine/dnnl/runtime.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/dnnl/descriptions.h"
#include "engine/dnnl/internal.h"

namespace normlab::engine {

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

std::string CpuIsaName() {
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  const char* const name = describe::IsaName(isa);
  return name != nullptr ? name : absl::StrCat("ISA_", static_cast<unsigned>(isa));
}

bool HasBf16Kernels() {
  // An instruction set's value has the bits of those that it includes.
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

bool ComputesInBf16() {
  return describe::HasBf16(dnnl_get_effective_cpu_isa());
}

bool HasWinograd() {
  return describe::HasWinograd(dnnl_get_effective_cpu_isa());
}

absl::StatusOr<Runtime> Runtime::Create() {
  return Guarded("a CPU engine", []() -> absl::StatusOr<Runtime> {
    dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    return Runtime(std::make_shared<const Impl>(Impl{std::move(engine), std::move(stream)}));
  });
}

}  // namespace normlab::engine
