#include "server/executor/helper_queue.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "server/executor/message_framing.h"

namespace normlab::server {

void HelperQueue::Answer(Request& request, absl::StatusOr<v1::HelperResponse> response) {
  if (request.done) {
    std::move(request.done)(std::move(response));
    request.done = nullptr;
  }
}

void HelperQueue::Add(Request request) {
  if (request.message.ByteSizeLong() > kMaxFrameBytes) {
    Answer(request,
           absl::InvalidArgumentError("the request is too large for the helper; make it smaller"));
  } else if (HasTooMany(request)) {
    Answer(request, absl::ResourceExhaustedError(absl::StrCat(
                        "this owner has ", Helper::kMaxWaitingPerOwner,
                        " data sets waiting to be looked at already; try again later")));
  } else {
    requests_.push_back(std::move(request));
  }
}

// Whether its owner has as many different requests waiting as may, and this is another one.
bool HelperQueue::HasTooMany(const Request& request) const {
  if (!request.owner.has_value()) {
    return false;
  }
  absl::flat_hash_set<absl::string_view> waiting;
  for (const Request& other : requests_) {
    if (other.owner.has_value() && other.question == request.question) {
      return false;
    }
    if (other.owner == request.owner && &other != sent()) {
      waiting.insert(other.question);
    }
  }
  return waiting.size() >= static_cast<size_t>(Helper::kMaxWaitingPerOwner);
}

// Of those that nobody else's turn comes before, the oldest.
std::deque<HelperQueue::Request>::iterator HelperQueue::NextInTurn() {
  auto next = requests_.end();
  uint64_t next_turn = 0;
  for (auto request = requests_.begin(); request != requests_.end(); ++request) {
    if (!request->owner.has_value()) {
      return request;
    }
    const auto last = turns_.find(*request->owner);
    const uint64_t turn = last == turns_.end() ? 0 : last->second;
    if (next == requests_.end() || turn < next_turn) {
      next = request;
      next_turn = turn;
    }
  }
  return next;
}

const HelperQueue::Request& HelperQueue::Send(absl::Duration now) {
  const auto next = NextInTurn();
  std::rotate(requests_.begin(), next, next + 1);
  if (requests_.size() == 1) {
    turns_.clear();  // nobody else waits: owners of long ago are not kept
  }
  Request& request = requests_.front();
  if (request.owner.has_value()) {
    turns_[*request.owner] = ++turn_;
  }
  if (timeout_from_sending_) {
    request.deadline = now + request.timeout;
  }
  is_sent_ = true;
  sent_at_ = now;
  return request;
}

HelperQueue::Request HelperQueue::TakeSent() {
  Request sent = std::move(requests_.front());
  requests_.pop_front();
  is_sent_ = false;
  return sent;
}

void HelperQueue::AnswerSent(absl::StatusOr<v1::HelperResponse> response) {
  Request sent = TakeSent();
  Answer(sent, std::move(response));
}

void HelperQueue::AnswerSentAndEqual(absl::StatusOr<v1::HelperResponse> response) {
  Request sent = TakeSent();
  for (auto request = requests_.begin(); sent.owner && request != requests_.end();) {
    if (request->owner.has_value() && request->question == sent.question) {
      Answer(*request, response);
      request = requests_.erase(request);
    } else {
      ++request;
    }
  }
  Answer(sent, std::move(response));
}

void HelperQueue::AnswerAll(const absl::Status& status) {
  for (Request& request : requests_) {
    Answer(request, status);
  }
  requests_.clear();
  is_sent_ = false;
}

void HelperQueue::Expire(absl::Duration now) {
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (request->done && now >= request->deadline) {
      Answer(*request, absl::DeadlineExceededError(absl::StrCat(
                           "the helper process did not answer within ",
                           absl::FormatDuration(request->timeout),
                           "; try again, and look at the server's log if it happens again")));
    }
    request = !request->done && &*request != sent() ? requests_.erase(request) : request + 1;
  }
}

absl::Duration HelperQueue::NextDeadline() const {
  absl::Duration next = absl::InfiniteDuration();
  for (const Request& request : requests_) {
    if (request.done) {
      next = std::min(next, request.deadline);
    }
  }
  return next;
}

}  // namespace normlab::server
