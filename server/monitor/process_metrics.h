#pragma once

#include <vector>

#include <prometheus/metric_family.h>

namespace normlab::server {

// The standard process_* metrics of this process, from /proc: CPU seconds, resident and virtual
// memory, open and possible file descriptors, start time. What cannot be read is left out.
// Thread-safe.
std::vector<prometheus::MetricFamily> ProcessFamilies();

}  // namespace normlab::server
