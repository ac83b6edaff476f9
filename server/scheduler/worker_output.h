#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "normlab/v1/records.pb.h"

namespace normlab::server {

// What an attempt's worker.log has beside the worker's own lines, which it sends by itself: output of the
// script and the libraries, the words of whatever ran it ("slurmstepd: error: *** JOB 88 ON n1 CANCELLED").
// Log records of the attempt, each text beginning with "output: ": the last 100 lines of at most 500
// characters, of the last 64 KiB of the file; none when there is no file. Thread-safe; reads the disk.
std::vector<v1::Segment> OutputRecords(const std::string& log_path,
                                       int32_t attempt,
                                       absl::Time now);

}  // namespace normlab::server
