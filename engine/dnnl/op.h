#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "engine/dnnl/layout.h"
#include "engine/tensor/buffer_pool.h"

namespace normlab::engine {

// What a tensor is to an op.
enum class Arg {
  kSource,
  kSource1,  // the second summand of an addition
  kWeights,
  kBias,
  kDestination,
  kMean,
  kVariance,
  kScale,
  kShift,
  kWorkspace,
  kDiffSource,
  kDiffWeights,
  kDiffBias,
  kDiffDestination,
  kDiffScale,
  kDiffShift,
  kScratchpad,
};

// A compiled oneDNN primitive with its arguments; made by the factories of primitives.h. Life: made
// -> Bind every argument -> Connect once the buffers have memory -> Run as often as wanted.
//
// Thread-compatible. Owns the primitive; the buffers must outlive it.
class Op {
 public:
  // Inside engine/dnnl only.
  struct Impl;
  explicit Op(std::unique_ptr<Impl> impl);
  const Impl& impl() const { return *impl_; }

  Op(Op&& other) noexcept;
  Op& operator=(Op&& other) noexcept;
  ~Op();

  // The layout the primitive demands; empty when it has no such argument.
  Layout layout(Arg arg) const;
  bool has(Arg arg) const { return !layout(arg).empty(); }
  // oneDNN's name of the chosen kernel: "brgemm:avx512_core".
  const std::string& implementation() const;

  // Says where an argument's memory will be. Ignored for an argument that the primitive does not
  // have, so that optional ones (bias, workspace, scratchpad) need no case distinction. INTERNAL:
  // the buffer is too small.
  [[nodiscard]] absl::Status Bind(Arg arg, const Buffer* buffer);

  // After every buffer has memory. INTERNAL: an argument was not bound.
  [[nodiscard]] absl::Status Connect();

  // Computes in the calling thread and OpenMP threads of its own. Cannot fail once connected: a
  // refusal by the library would be a bug of ours, and ends the process with a message.
  void Run() const;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace normlab::engine
