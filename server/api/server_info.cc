#include "server/api/server_info.h"

#include <algorithm>
#include <string>
#include <utility>

#include <google/protobuf/descriptor.h>

#include "common/disk_space.h"
#include "server/domain/proto_time.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kEngineTimeout = absl::Seconds(10);
constexpr absl::Duration kDiskAge = absl::Seconds(1);

// Names of the members of a message's oneof: the kinds that a spec can choose from.
template <typename Message>
void AddKinds(const char* oneof, google::protobuf::RepeatedPtrField<std::string>& names) {
  const google::protobuf::OneofDescriptor* kinds = Message::descriptor()->FindOneofByName(oneof);
  for (int i = 0; kinds != nullptr && i < kinds->field_count(); ++i) {
    names.Add(std::string(kinds->field(i)->name()));
  }
}

// Adds the disk below `folder`; nothing when it cannot be asked.
void AddDisk(v1::Disk::Kind kind, const std::string& folder, std::vector<v1::Disk>& disks) {
  const absl::StatusOr<common::DiskSpace> space = common::LookAtDisk(folder);
  if (!space.ok()) {
    return;
  }
  v1::Disk disk;
  disk.set_kind(kind);
  disk.set_total_bytes(space->size_bytes);
  disk.set_free_bytes(space->free_bytes);
  disks.push_back(disk);
}

}  // namespace

ServerInfoReader::ServerInfoReader(Backend& backend) : backend_(backend) {
  base_.set_version(backend.options.version);
  base_.set_cores(backend.options.cores);
  base_.set_memory_bytes(backend.options.memory_bytes);
  base_.mutable_data_roots()->Add(backend.options.data_roots.begin(),
                                  backend.options.data_roots.end());
  AddKinds<v1::Model>("kind", *base_.mutable_models());
  AddKinds<v1::Normalizer>("kind", *base_.mutable_normalizations());
  AddKinds<v1::Data>("source", *base_.mutable_data_sets());
  AddKinds<v1::Initializer>("kind", *base_.mutable_initializers());
  AddKinds<v1::Optimizer>("kind", *base_.mutable_optimizers());
  *base_.mutable_start_time() = ToTimestamp(backend.options.clock->Now());
}

void ServerInfoReader::Read(absl::AnyInvocable<void(v1::ServerInfo) &&> done) {
  v1::EngineInfo known;
  bool is_known = false;
  bool sample = false;
  {
    absl::MutexLock lock(&mu_);
    known = engine_;
    is_known = engine_known_;
    // One at a time, so that what a crowd of callers adds to the pool is bounded.
    sample =
        is_known && !sampling_ && backend_.options.clock->Monotonic() - sampled_at_ >= kDiskAge;
    sampling_ |= sample;
  }
  if (sample) {
    backend_.pool.Post([this, known = std::move(known), done = std::move(done)]() mutable {
      SampleAndAnswer(known, std::move(done));
    });
    return;
  }
  if (is_known) {
    std::move(done)(Answer(known));
    return;
  }
  v1::HelperRequest request;
  request.mutable_engine_info();
  backend_.helper.Call(
      std::move(request), kEngineTimeout,
      [this, done = std::move(done)](absl::StatusOr<v1::HelperResponse> response) mutable {
        v1::EngineInfo engine;
        if (response.ok() && response->has_engine_info()) {
          engine = response->engine_info();
          absl::MutexLock lock(&mu_);
          engine_ = engine;
          engine_known_ = true;
        }
        backend_.pool.Post([this, engine = std::move(engine), done = std::move(done)]() mutable {
          SampleAndAnswer(engine, std::move(done));
        });
      });
}

void ServerInfoReader::SampleAndAnswer(const v1::EngineInfo& engine,
                                       absl::AnyInvocable<void(v1::ServerInfo) &&> done) {
  std::vector<v1::Disk> disks;
  AddDisk(v1::Disk::DATA, backend_.options.data_dir, disks);
  AddDisk(v1::Disk::WORK, backend_.options.work_dir, disks);
  {
    absl::MutexLock lock(&mu_);
    disks_ = std::move(disks);
    sampled_at_ = backend_.options.clock->Monotonic();
    sampling_ = false;
  }
  std::move(done)(Answer(engine));
}

v1::ServerInfo ServerInfoReader::Answer(const v1::EngineInfo& engine) {
  v1::ServerInfo info = base_;
  info.set_isa(engine.isa());
  info.set_onednn_version(engine.onednn_version());
  const Controller::Load load = backend_.controller.GetLoad();
  info.set_queue_limit(backend_.options.queue_limits.jobs);
  info.set_reserved_cores(std::max(backend_.options.cores - load.free_cores, 0));
  info.set_reserved_memory_bytes(
      std::max<int64_t>(backend_.options.memory_bytes - load.free_memory_bytes, 0));
  info.set_queued_jobs(load.queued);
  info.set_running_jobs(load.running);
  *info.mutable_time() = ToTimestamp(backend_.options.clock->Now());
  absl::MutexLock lock(&mu_);
  info.mutable_disks()->Add(disks_.begin(), disks_.end());
  return info;
}

}  // namespace normlab::server
