#pragma once

#include <string>

#include "normlab/v1/job.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// A job that begins at the beginning with a data set whose shape is not the one that it was admitted
// with: makes `data` and the totals of `progress` what the run's will be. Returns a sentence about it for
// the job's log; empty when the shape is the same, or was not known. Pure; thread-safe.
std::string CorrectData(const v1::DataReport& report, v1::Job& job);

}  // namespace normlab::server
