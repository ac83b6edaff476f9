// Arrays that the command line sends.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"

#include "client/lib/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensor =
      normlab::client::ParseNpy(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (tensor.ok()) {
    int64_t count = 1;
    for (const int64_t dim : tensor->dims()) {
      count *= dim;
    }
    if (count != tensor->values_size()) {
      std::abort();
    }
  }
  return 0;
}
