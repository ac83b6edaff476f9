#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "server/api/work_pool.h"
#include "server/monitor/disk.h"

namespace normlab::server {

// Looks at what may lie on another machine's disk (the work folder may be shared storage, which answers when
// it likes) for those who have to answer now: a scrape must not hang because a mount does.
//
// Thread-safe. The pool must outlive this; what `look` uses must outlive the pool.
class ReadinessSampler {
 public:
  struct Sample {
    bool ready = false;
    std::optional<DiskSpace> work_disk;  // none: it is that of the data folder, or cannot be asked
  };

  // `look` is called on a thread of `pool`, one at a time, and may take as long as it wants.
  ReadinessSampler(WorkPool& pool, std::function<Sample()> look);
  ~ReadinessSampler();
  ReadinessSampler(const ReadinessSampler&) = delete;
  ReadinessSampler& operator=(const ReadinessSampler&) = delete;

  // Begins a look, unless one is under way, and answers with what it saw; when that takes more than some
  // milliseconds, with what was seen last (before there was anything: not ready).
  Sample Latest();

 private:
  struct State;
  const std::shared_ptr<State> state_;
  WorkPool& pool_;
};

}  // namespace normlab::server
