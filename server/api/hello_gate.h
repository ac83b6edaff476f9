#pragma once

#include <map>

#include "absl/status/status.h"
#include <grpcpp/support/string_ref.h>

#include "common/log_pace.h"
#include "server/store/store.h"

namespace normlab::server {

// Tells workers from strangers where anybody may connect, by the hello in the headers of a call: before
// anything of it is read, on the call's own thread, and without the controller's. A stranger costs a short
// read of the database at most, and a line of the log a minute, however many there are. Thread-safe. The
// store must outlive it.
class HelloGate {
 public:
  explicit HelloGate(Store& store) : store_(store) {}

  // OK: whoever calls has the secret of an attempt that there is or was (the controller has the last word).
  // UNAUTHENTICATED: it has not. UNAVAILABLE: that cannot be told now.
  absl::Status Check(const std::multimap<grpc::string_ref, grpc::string_ref>& headers);

 private:
  absl::Status Judge(const std::multimap<grpc::string_ref, grpc::string_ref>& headers);

  Store& store_;
  common::LogPace refusals_{absl::Minutes(1)};
};

}  // namespace normlab::server
