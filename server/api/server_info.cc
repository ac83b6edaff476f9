#include "server/api/server_info.h"

#include <algorithm>
#include <utility>

#include <google/protobuf/descriptor.h>

#include "server/domain/proto_time.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kEngineTimeout = absl::Seconds(10);

// Names of the members of a message's oneof: the kinds that a spec can choose from.
template <typename Message>
void AddKinds(const char* oneof, google::protobuf::RepeatedPtrField<std::string>& names) {
  const google::protobuf::OneofDescriptor* kinds = Message::descriptor()->FindOneofByName(oneof);
  for (int i = 0; kinds != nullptr && i < kinds->field_count(); ++i) {
    names.Add(std::string(kinds->field(i)->name()));
  }
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
  {
    absl::MutexLock lock(&mu_);
    known = engine_;
    is_known = engine_known_;
  }
  if (is_known) {
    std::move(done)(WithEngine(known));
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
        backend_.pool.Post([info = WithEngine(engine), done = std::move(done)]() mutable {
          std::move(done)(std::move(info));
        });
      });
}

v1::ServerInfo ServerInfoReader::WithEngine(const v1::EngineInfo& engine) const {
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
  return info;
}

}  // namespace normlab::server
