#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::server {

// Where a page of a list ended: rows are ordered by (create time, key), newest first. The default is
// the start of the list.
struct PagePosition {
  int64_t create_time_us = std::numeric_limits<int64_t>::max();
  int64_t key = std::numeric_limits<int64_t>::max();
  friend bool operator==(const PagePosition&, const PagePosition&) = default;
};

// A page token: a position and what list it is of, `list` being 16 hexadecimal digits of a hash over
// everything that decides which rows there are, the owner whose rows they are included. A token is
// no secret and no proof: whoever makes one up gets rows that their own list has anyway, and a
// position in a list of one owner is always a row of that owner. Pure; thread-safe.
std::string MakePageToken(const PagePosition& position, absl::string_view list);

// The position in a token of this list; of an empty one, the start. INVALID_ARGUMENT
// (INVALID_PAGE_TOKEN). Pure; thread-safe.
absl::StatusOr<PagePosition> ParsePageToken(absl::string_view token, absl::string_view list);

}  // namespace normlab::server
