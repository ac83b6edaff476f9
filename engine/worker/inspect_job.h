#pragma once

#include "engine/data/data_inspector.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// What the helper process finds out about a job before it is stored: the data set (by `inspector`);
// whether this machine computes in the precision; whether the file of initial weights is there and,
// when the request has the whole spec, fits the network tensor by tensor. Every violation at once,
// with its field below the spec. Thread-compatible.
v1::DataReport InspectJob(DataInspector& inspector, const v1::InspectDataRequest& request);

}  // namespace normlab::engine
