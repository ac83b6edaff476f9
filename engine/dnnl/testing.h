#pragma once

// What the tests of this folder share: values, a runner for one op, and comparisons with
// double-precision loops.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/dnnl/primitives.h"
#include "engine/tensor/buffer_pool.h"

namespace normlab::engine::testing {

// In row-major order of the logical sizes, whatever the op's layout is.
using Values = std::vector<double>;

// Of one runtime for the whole test program.
const Runtime& TestRuntime();

// Uniform in (low, high), exact in `type`, so that a reference sees what an op sees.
Values RandomValues(
    int64_t count, uint32_t seed, DataType type = DataType::kF32, double low = -1, double high = 1);

// An op with memory of its own for every argument, all of it NaN at first: what an op forgets to
// write, or reads without being given it, shows.
class OpRunner {
 public:
  // Fails the test and ends the program when `op` is an error.
  explicit OpRunner(absl::StatusOr<Op> op);

  const Op& op() const { return op_; }
  // Writes an argument; ignored for one that the op does not have.
  void Set(Arg arg, const Values& values);
  // Takes over an argument of another op byte by byte: a workspace.
  void Copy(Arg arg, const OpRunner& from);
  void Run() const { op_.Run(); }
  Values Get(Arg arg) const;

 private:
  Op op_;
  BufferPool pool_;
  std::map<Arg, Buffer*> buffers_;
};

// Values of `layout`'s memory from row-major ones, and back: by reorders.
void Store(const Values& values, const Layout& layout, std::byte* memory);
Values Load(const Layout& layout, const std::byte* memory);

// Largest rounding of a result, relative to it: none counts for F32 (see `slack` below); bf16 has 8
// bits of significand, so half a unit in the last place is at most 2^-9 of the value, and 2^-8
// leaves room for the value itself being off before it is rounded.
double Rounding(DataType result);

// |got - want| <= rounding of `result` * |want| + slack * magnitude, where `magnitude` is the sum of
// the absolute values of what was added up (or the scale of the numbers inside).
void ExpectClose(const Values& got,
                 const Values& want,
                 const Values& magnitude,
                 DataType result,
                 double slack,
                 const std::string& what);
void ExpectClose(const Values& got,
                 const Values& want,
                 double magnitude,
                 DataType result,
                 double slack,
                 const std::string& what);

inline const char* NameOf(DataType type) {
  return type == DataType::kBf16 ? "Bf16" : "F32";
}

}  // namespace normlab::engine::testing

// At the begin of a test with types: says that this machine cannot run it.
#define NORMLAB_SKIP_WITHOUT(type)                                     \
  if ((type) == DataType::kBf16 && !HasBf16Kernels()) {                \
    GTEST_SKIP() << "no bf16 instructions for oneDNN on this machine"; \
  }
