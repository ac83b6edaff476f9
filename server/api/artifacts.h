#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"
#include "server/api/stream_reactor.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// The files of a job, oldest first, without checkpoints that the worker has replaced by newer ones.
// INVALID_ARGUMENT: not a job's name; NOT_FOUND. Reads the disk.
absl::StatusOr<v1::ListArtifactsResponse> HandleListArtifacts(
    Backend& backend, const Caller& caller, const v1::ListArtifactsRequest& request);

// The messages of ReadArtifact: the file from `offset` on in pieces of 256 KiB; an empty rest is
// one message without data. From Next: NOT_FOUND: no such job or artifact, or a checkpoint that was
// replaced by a newer one; OUT_OF_RANGE: the offset; DATA_LOSS: the file is gone, is a link, or has
// another size than when it was written. INVALID_ARGUMENT here: not an artifact's name, a negative
// offset.
absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadArtifactResponse>>> NewArtifactSource(
    Backend& backend, const v1::ReadArtifactRequest& request);

}  // namespace normlab::server
