#pragma once

// oneDNN's own types, for the .cc files of this folder only.

#include <any>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "oneapi/dnnl/dnnl.hpp"

#include "engine/dnnl/layout.h"
#include "engine/dnnl/op.h"
#include "engine/dnnl/runtime.h"

namespace normlab::engine {

struct Layout::Impl {
  dnnl::memory::desc desc;
};

struct Runtime::Impl {
  dnnl::engine engine;
  dnnl::stream stream;
};

struct Op::Impl {
  struct Slot {
    Arg arg;
    dnnl::memory::desc desc;
    const Buffer* buffer = nullptr;
    dnnl::memory memory;
  };

  std::shared_ptr<const Runtime::Impl> runtime;
  dnnl::primitive primitive;
  std::any forward_hint;  // the typed descriptor of a forward primitive, which its backward ones
                          // are made from
  std::string implementation;
  std::vector<Slot> slots;
  std::vector<dnnl_exec_arg_t> arguments;  // filled by Connect
};

// oneDNN's code for an argument.
int ArgumentCode(Arg arg);

// A status for what the library threw; `what` names the thing that was built.
inline absl::Status ToStatus(const dnnl::error& error, absl::string_view what) {
  const std::string message = absl::StrCat("oneDNN could not make ", what, ": ", error.what(),
                                           " (status ", error.status, ")");
  switch (error.status) {
    case dnnl_out_of_memory:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; give the job more memory, or use a smaller batch or model"));
    case dnnl_unimplemented:
      return absl::UnimplementedError(
          absl::StrCat(message,
                       "; choose another precision or convolution_algorithm, or report this with "
                       "the job's spec"));
    default:
      return absl::InternalError(absl::StrCat(message, "; report this with the job's spec"));
  }
}

// Runs `make`, which may throw what oneDNN and the allocator throw, and returns its StatusOr or the
// status of the throw.
template <typename Make>
auto Guarded(absl::string_view what, Make make) -> decltype(make()) {
  try {
    return make();
  } catch (const dnnl::error& error) {
    return ToStatus(error, what);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of memory while making ", what,
                     "; give the job more memory, or use a smaller batch or model"));
  }
}

}  // namespace normlab::engine
