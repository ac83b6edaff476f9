// Designs of experiments: a field's path and a value on the first two lines, the rest a v1::Design.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"

#include "server/domain/design.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('\n', 2));
  if (parts.size() < 3) {
    return 0;
  }
  normlab::v1::JobSpec spec;
  spec.mutable_model()->mutable_mlp()->add_hidden(4);
  spec.mutable_normalization()->mutable_batch();
  const std::string before = spec.SerializeAsString();
  if (!normlab::server::SetField(parts[0], parts[1], spec).ok() &&
      spec.SerializeAsString() != before) {
    std::abort();  // a failure leaves the spec as it was
  }
  normlab::v1::Design design;
  if (design.ParseFromString(parts[2])) {
    const auto expanded = normlab::server::ExpandDesign(spec, design);
    if (expanded.violations.size() > 101 || expanded.cells.size() > 10'000 ||
        (expanded.cells.empty() && expanded.violations.empty())) {
      std::abort();
    }
  }
  return 0;
}
