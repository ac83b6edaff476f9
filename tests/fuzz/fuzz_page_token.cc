// Page tokens of lists and positions of metric streams: texts that clients send back.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"

#include "server/api/metrics_position.h"
#include "server/store/page_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr absl::string_view kList = "0123456789abcdef";
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto position = normlab::server::ParsePageToken(text, kList);
  if (position.ok()) {
    // What is understood is a position: it comes back from a token of our own.
    const auto again =
        normlab::server::ParsePageToken(normlab::server::MakePageToken(*position, kList), kList);
    if (!again.ok() || !(*again == *position)) {
      std::abort();
    }
  }
  normlab::v1::ReadMetricsRequest request;
  request.set_position(text);
  const auto metrics = normlab::server::DecodePosition(request);
  if (metrics.ok() && (metrics->begin < 0 || metrics->end < metrics->begin)) {
    std::abort();
  }
  return 0;
}
