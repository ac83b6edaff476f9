#pragma once

#include <map>
#include <string>

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// Looks at the files of a data set for the server, which never parses them itself: finds them below
// the data roots, checks them completely, and keeps the decoded set in a cache file for workers to
// map. Runs in the helper process.
//
// Verdicts, good and bad, are remembered by the files' identities (device, inode, size, time), so
// asking again costs a few system calls. The cache keeps the sets used last. Not thread-safe.
class DataInspector {
 public:
  // Every violation at once, with the field data.<set>.path; or the cache file and the numbers of
  // examples. A failure of our own (a full disk under the cache) is reported as a violation of the
  // same field that says so, and is not remembered.
  v1::DataReport Inspect(const v1::InspectDataRequest& request);

 private:
  std::map<std::string, v1::DataReport> verdicts_;
};

}  // namespace normlab::engine
