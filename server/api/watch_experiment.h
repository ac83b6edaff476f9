#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/stream_reactor.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::server {

// The messages of WatchExperiment: the experiment at once, then after changes of its jobs' states,
// ApiOptions::experiment_interval apart at least; ends after the one in which no job waits, runs or
// is paused. With heartbeats, if they are wished, after ApiOptions::heartbeat_interval of silence.
// While nothing happens nothing is read. Its reactor's heartbeat is WatchedExperimentTick.
// INVALID_ARGUMENT; later NOT_FOUND, also when the experiment is deleted meanwhile.
absl::StatusOr<std::unique_ptr<StreamSource<v1::Experiment>>> NewExperimentSource(
    Backend& backend, const v1::WatchExperimentRequest& request);

// How often such a source looks whether something is due.
absl::Duration WatchedExperimentTick(const ApiOptions& options);

}  // namespace normlab::server
