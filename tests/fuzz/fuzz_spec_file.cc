// Spec files in every format, and the validation of whatever they say.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

#include "client/lib/spec_file.h"
#include "engine/spec/validate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using normlab::client::SpecFormat;
  if (size == 0) {
    return 0;
  }
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const SpecFormat format = data[0] == 't' ? SpecFormat::kTextProto : SpecFormat::kYaml;
  const normlab::client::SpecResult result = normlab::client::ParseSpec("fuzz", text, format);
  // The server sees what the client lets through, and what other clients send.
  normlab::engine::Validate(result.document.spec);
  return 0;
}
