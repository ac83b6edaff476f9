#include "server/domain/queue_errors.h"

#include <string>

#include "absl/strings/str_cat.h"

#include "server/domain/error_details.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

std::string Jobs(int64_t count) {
  return absl::StrCat(count, count == 1 ? " job" : " jobs");
}

absl::Status NoRoom(absl::string_view why,
                    const std::string& text,
                    const ErrorMetadata& metadata,
                    absl::Duration retry_after) {
  absl::Status status = MakeError(absl::StatusCode::kResourceExhausted, why, text, metadata);
  AddRetryInfo(status, retry_after);
  return status;
}

}  // namespace

absl::Status QueueFull(const QueueRoom& room, absl::Duration retry_after) {
  return NoRoom(reason::kQueueFull,
                absl::StrCat("the queue has no room for ", Jobs(room.wanted), ": ", room.taken,
                             " of at most ", room.limit, " wait already; try again in ",
                             absl::FormatDuration(retry_after), ", or have --queue_limit raised"),
                {{"limit", absl::StrCat(room.limit)}}, retry_after);
}

absl::Status OwnerQueueFull(absl::string_view owner,
                            const QueueRoom& room,
                            absl::Duration retry_after) {
  constexpr absl::string_view kFlag = "(--owner_max_queued is the server's limit)";
  if (room.wanted > room.limit) {
    return InvalidArgument(
        "experiment.design",
        absl::StrCat("makes ", Jobs(room.wanted), ", but owner ", QuotedForMessage(owner),
                     " may have ", room.limit,
                     " waiting or paused at a time; use fewer cells or seeds ", kFlag));
  }
  return NoRoom(reason::kOwnerQueueFull,
                absl::StrCat("owner ", QuotedForMessage(owner), " has ", room.taken, " of at most ",
                             room.limit, " jobs waiting or paused, which leaves no room for ",
                             Jobs(room.wanted), "; try again in ",
                             absl::FormatDuration(retry_after), ", or cancel some ", kFlag),
                {{"owner", std::string(owner)}, {"limit", absl::StrCat(room.limit)}}, retry_after);
}

absl::Status OwnerQueueTooLarge(absl::string_view owner,
                                const QueueRoom& room,
                                absl::Duration retry_after) {
  constexpr absl::string_view kFlag = "(--owner_max_queued_bytes is the server's limit)";
  if (room.wanted > room.limit) {
    return InvalidArgument(
        "spec", absl::StrCat("takes ", room.wanted,
                             " bytes as stored, but the waiting and paused jobs of owner ",
                             QuotedForMessage(owner), " may take ", room.limit,
                             "; use a smaller one, fewer cells or fewer seeds ", kFlag));
  }
  return NoRoom(reason::kOwnerQueueFull,
                absl::StrCat("the waiting and paused jobs of owner ", QuotedForMessage(owner),
                             " take ", room.taken, " of at most ", room.limit,
                             " bytes as stored, which leaves no room for ", room.wanted,
                             "; try again in ", absl::FormatDuration(retry_after),
                             ", use smaller specs, or cancel some jobs ", kFlag),
                {{"owner", std::string(owner)}, {"limit_bytes", absl::StrCat(room.limit)}},
                retry_after);
}

}  // namespace normlab::server
