#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace normlab::engine {

// "2.6.3": the library we run with, not the headers.
std::string OneDnnVersion();

// Widest instruction set oneDNN will use on this machine: "AVX512_CORE_AMX", "AVX2", ...
std::string CpuIsaName();

// Whether oneDNN multiplies bf16 in hardware here (AVX512_BF16 or AMX), ONEDNN_MAX_CPU_ISA
// respected. Where false, ops of bf16 layouts are UNIMPLEMENTED or emulated, slower than F32.
bool HasBf16Kernels();

// Whether ops of bf16 layouts can be made at all here, in hardware or emulated.
bool ComputesInBf16();

// Whether convolutions can be asked for with ConvAlgorithm::kWinograd: oneDNN 2.x on AVX-512.
// Where true, single shapes may still be UNIMPLEMENTED.
bool HasWinograd();

// oneDNN's CPU engine and an in-order stream: what ops are made and run with.
//
// Thread-compatible: ops of one runtime run one at a time. A cheap handle; copies share the same
// engine.
class Runtime {
 public:
  // INTERNAL: oneDNN could not start.
  static absl::StatusOr<Runtime> Create();

  // Inside engine/dnnl only.
  struct Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  explicit Runtime(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  std::shared_ptr<const Impl> impl_;
};

}  // namespace normlab::engine
