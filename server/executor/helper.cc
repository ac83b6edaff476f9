#include "server/executor/helper.h"

#include <future>
#include <utility>

namespace normlab::server {

absl::StatusOr<v1::HelperResponse> Helper::CallAndWait(v1::HelperRequest request,
                                                       absl::Duration timeout) {
  std::promise<absl::StatusOr<v1::HelperResponse>> promise;
  std::future<absl::StatusOr<v1::HelperResponse>> answer = promise.get_future();
  Call(std::move(request), timeout, [&promise](absl::StatusOr<v1::HelperResponse> response) {
    promise.set_value(std::move(response));
  });
  return answer.get();
}

}  // namespace normlab::server
