#pragma once

#include <map>
#include <string>

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// Looks at a data set for the server, which never parses one itself: finds its files below the data
// roots and checks them completely, or draws a synthetic one, and keeps the decoded set in a cache
// file for workers to map. Runs in the helper process.
//
// Verdicts, good and bad, are remembered by the files' identities (device, inode, size, time), so
// asking again costs a few system calls. The cache keeps the sets used last. Not thread-safe.
class DataInspector {
 public:
  // `request.data`: valid and resolved. Every violation at once, with its field (data.<set>.path,
  // data.arrays.x_train, ...); or the cache file and the shape of the set. A failure of our own (a full disk under the cache) is reported as a violation of the
  // same field that says so, and is not remembered.
  v1::DataReport Inspect(const v1::InspectDataRequest& request);

 private:
  std::map<std::string, v1::DataReport> verdicts_;
};

}  // namespace normlab::engine
