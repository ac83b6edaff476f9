#pragma once

#include <string>
#include <vector>

#include "client/lib/spec_violation.h"

namespace normlab::client {

// Reads protobuf's text format into `document.spec`, with positions; every syntax or naming error
// is added to `violations` with line and column. `text` must be UTF-8. Thread-safe for different
// documents.
void ParseTextProto(const std::string& name,
                    const std::string& text,
                    SpecDocument& document,
                    std::vector<SpecViolation>& violations);

}  // namespace normlab::client
