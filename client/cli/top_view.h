#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "client/cli/output.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::client {

// One look at a server, for `normlab top`.
struct TopSample {
  normlab::v1::ServerInfo info;
  std::vector<normlab::v1::Job> jobs;
  absl::Time time;  // of this machine
};

// By what rows are sorted: state (running before waiting, then the oldest first), age, progress,
// speed, eta, loss, cores, memory, owner.
enum class TopSort { kState, kAge, kProgress, kSpeed, kEta, kLoss, kCores, kMemory, kOwner };

// Names of the sort keys, in the order of TopSort.
const std::vector<std::string>& TopSortNames();
// The sort key of a name of TopSortNames.
TopSort TopSortOfName(absl::string_view name);
// The sort key that a key of the keyboard selects; `now` for any other key.
TopSort TopSortOfKey(int key, TopSort now);

// Updates a second; 0 while unknown.
double StepsPerSecond(const normlab::v1::Job& job);

// Sorts the rows of the sample. Stable; thread-safe.
void SortTop(TopSort sort, TopSample& sample);

// Two lines about the server, then a table of jobs, at most `width` columns wide; of a terminal with
// 120 columns nothing is cut. Thread-safe.
std::string RenderTop(const Output& out, const TopSample& sample, int width);

}  // namespace normlab::client
