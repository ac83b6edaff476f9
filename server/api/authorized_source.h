#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/status_macros.h"
#include "server/api/backend.h"
#include "server/api/caller.h"
#include "server/api/stream_reactor.h"

namespace normlab::server {

// Another source behind a door: before its first message the job's owner is compared with the
// caller (on the pool, as that reads the store), and before every message it is made sure that the
// caller's token was not withdrawn or replaced. Refusals are in the audit log. Holds the caller's
// place among their owner's open streams.
template <typename Response>
class AuthorizedSource final : public StreamSource<Response> {
 public:
  AuthorizedSource(Backend& backend,
                   Caller caller,
                   std::string method,
                   std::string resource,
                   std::string peer,
                   Authorizer::StreamLease lease,
                   std::unique_ptr<StreamSource<Response>> inner)
      : backend_(backend),
        caller_(std::move(caller)),
        method_(std::move(method)),
        resource_(std::move(resource)),
        peer_(std::move(peer)),
        lease_(std::move(lease)),
        inner_(std::move(inner)) {}

  void Start(std::function<void()> wake) override { inner_->Start(std::move(wake)); }

  absl::StatusOr<StreamStep> Next(bool idle, Response& response) override {
    if (const absl::Status open = CheckDoor(); !open.ok()) {
      AuditRefused(backend_, caller_, method_, resource_, peer_, open);
      return open;
    }
    return inner_->Next(idle, response);
  }

  StreamPosition position() const override { return inner_->position(); }

  void Stop() override { inner_->Stop(); }

 private:
  absl::Status CheckDoor() {
    if (!owner_checked_) {
      NORMLAB_RETURN_IF_ERROR(CheckOwner(backend_, caller_, resource_));
      owner_checked_ = true;
    }
    return backend_.authorizer.StillAuthorized(caller_, generation_);
  }

  Backend& backend_;
  const Caller caller_;
  const std::string method_;
  const std::string resource_;
  const std::string peer_;
  const Authorizer::StreamLease lease_;
  const std::unique_ptr<StreamSource<Response>> inner_;
  bool owner_checked_ = false;
  int64_t generation_ = 0;
};

}  // namespace normlab::server
