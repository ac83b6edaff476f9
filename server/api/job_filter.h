#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/store/store.h"

namespace normlab::server {

// Parses the filter of ListJobs: terms joined by AND, each of
//   state=RUNNING
//   owner=NAME
//   experiment=experiments/ID
//   labels.KEY=VALUE
//   create_time>=2026-01-31T00:00:00Z    also > < <=; RFC 3339
// A value is a word or, where it has spaces or is empty, a string in double quotes with \" and \\.
// An empty filter restricts nothing. INVALID_ARGUMENT on `filter`: what is wrong, at which
// character, and what is allowed there. Pure; thread-safe.
absl::StatusOr<JobFilter> ParseJobFilter(absl::string_view text);

}  // namespace normlab::server
