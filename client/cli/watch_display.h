#pragma once

#include <memory>

#include "client/cli/output.h"
#include "client/lib/client.h"

#include "normlab/v1/job.pb.h"

namespace normlab::client {

// Shows the records of a watch as they come.
class WatchDisplay : public WatchHandler {
 public:
  // Prints what was held back; after the last record, however the watch ended.
  virtual void Finish() = 0;
};

// For a person at a terminal: state changes and log lines scroll by above one line that is redrawn
// at most ten times a second.
std::unique_ptr<WatchDisplay> MakeLiveDisplay(Output& out, const normlab::v1::Job& job);

// For a pipe or a file: a line for each state change, log line and evaluation, and at most one line
// of progress a second, the last one always.
std::unique_ptr<WatchDisplay> MakePlainDisplay(Output& out,
                                               Output& err,
                                               const normlab::v1::Job& job);

// For programs: every record as one line of JSON (record_json.h).
std::unique_ptr<WatchDisplay> MakeJsonDisplay(Output& out, Output& err);

}  // namespace normlab::client
