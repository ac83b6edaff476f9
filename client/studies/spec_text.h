#pragma once

#include <string>

#include "normlab/v1/spec.pb.h"

namespace normlab::client::studies {

// A spec as YAML that the spec files' reader takes back. Thread-safe.
std::string SpecYaml(const v1::JobSpec& spec);

}  // namespace normlab::client::studies
