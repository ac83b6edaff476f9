#pragma once

#include <string>

#include "normlab/v1/spec.pb.h"

namespace normlab::client::report {

// A spec as YAML in blocks, with the names of the contract, as `normlab submit` reads it back. Thread-safe.
std::string SpecYaml(const normlab::v1::JobSpec& spec);

}  // namespace normlab::client::report
