#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "server/scheduler/controller.h"

namespace normlab::server {

// What has to be in order before any attempt starts.
struct StartOptions {
  // What marks the work folder (work_folder.h); empty: none is looked for.
  std::string work_mark{};
  // While the work folder's disk has less free, nothing starts.
  int64_t least_free_bytes = int64_t{32} << 20;
  // Told when that changes: OK while attempts are started; else UNAVAILABLE, with what is wrong with the
  // machine and what to do. On the controller's thread; must not block. May be empty.
  std::function<void(const absl::Status&)> on_change{};
};

// As Controller::Create, whose starts are `start`'s defaults.
std::unique_ptr<Controller> CreateController(ControllerOptions options,
                                             StartOptions start,
                                             Store& store,
                                             Executor& executor,
                                             Helper& helper,
                                             Observer& observer = Observer::None());

}  // namespace normlab::server
