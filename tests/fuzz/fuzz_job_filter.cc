// Filters of ListJobs.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

#include "server/api/job_filter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  normlab::server::ParseJobFilter(absl::string_view(reinterpret_cast<const char*>(data), size))
      .status()
      .IgnoreError();
  return 0;
}
