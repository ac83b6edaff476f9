#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/executor/helper.h"

namespace normlab::server {

// Who waits for the helper process, and whose turn it is.
//
// Requests of Helper::Call go first, in their order; then those of CallInTurn, owner by owner. The helper has one at a time;
// the queue keeps it until it is answered, also when its caller has given up, as the helper is not done with it. One whose
// caller gives up before its turn is forgotten.
//
// Every callback is run once, from the method that says so. Times are monotonic. Not thread-safe.
class HelperQueue {
 public:
  struct Request {
    v1::HelperRequest message;  // with its id
    absl::Duration timeout;
    absl::Duration deadline;  // of the caller; infinite: not known before it is sent
    Helper::Callback done;    // empty: the caller has its answer
    // Of CallInTurn: who asks, and the message without its id. No value: it goes first.
    std::optional<std::string> owner{};
    std::string question{};
  };

  // timeout_from_sending: see HelperProcessOptions.
  explicit HelperQueue(bool timeout_from_sending) : timeout_from_sending_(timeout_from_sending) {}

  // Takes it in, or answers it: INVALID_ARGUMENT when it is too large for a frame, RESOURCE_EXHAUSTED when its owner has as many
  // different ones waiting as may.
  void Add(Request request);

  bool empty() const { return requests_.empty(); }

  // The request that the helper works on; null when it works on none.
  const Request* sent() const { return is_sent_ ? &requests_.front() : nullptr; }
  // Makes that the one whose turn it is. The queue is not empty, and none is sent.
  const Request& Send(absl::Duration now);
  // When the helper has taken as long for the one that is sent as it may.
  absl::Duration StuckAt() const { return sent_at_ + requests_.front().timeout; }

  // The answer to the one that is sent, also for those who asked the same: it would not be another one.
  void AnswerSentAndEqual(absl::StatusOr<v1::HelperResponse> response);
  // To the one that is sent alone.
  void AnswerSent(absl::StatusOr<v1::HelperResponse> response);
  void AnswerAll(const absl::Status& status);
  // DEADLINE_EXCEEDED to those whose time is over.
  void Expire(absl::Duration now);
  // When Expire has something to do next; infinite: never.
  absl::Duration NextDeadline() const;

 private:
  static void Answer(Request& request, absl::StatusOr<v1::HelperResponse> response);
  bool HasTooMany(const Request& request) const;
  std::deque<Request>::iterator NextInTurn();
  Request TakeSent();

  const bool timeout_from_sending_;
  std::deque<Request>
      requests_;  // oldest first, but for the one that is sent, which is at the front
  bool is_sent_ = false;
  absl::Duration sent_at_ = absl::ZeroDuration();
  std::map<std::string, uint64_t> turns_;  // by owner: when it had its last turn
  uint64_t turn_ = 0;
};

}  // namespace normlab::server
