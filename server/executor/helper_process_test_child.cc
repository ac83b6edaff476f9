// Stands in for `normlab-worker --helper` in helper_process_test: does what the path of the data
// set in the request tells it to.
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"

#include "server/executor/message_framing.h"

#include "normlab/v1/worker.pb.h"

namespace {

using normlab::v1::HelperRequest;
using normlab::v1::HelperResponse;

constexpr int kSocket = 3;

void Send(const std::string& bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = write(kSocket, bytes.data() + sent, bytes.size() - sent);
    if (count <= 0) {
      _exit(9);
    }
    sent += static_cast<size_t>(count);
  }
}

void Serve(const HelperRequest& request) {
  const std::string& command = request.inspect_data().cache_folder();
  if (command == "crash") {
    abort();
  }
  if (command == "exit") {
    _exit(3);
  }
  if (command == "hang") {
    while (true) {
      pause();
    }
  }
  if (command == "garbage") {
    Send(std::string("\xff\xff\xff\xff", 4));
    return;
  }
  HelperResponse response;
  response.set_id(request.id());
  // Echoes the command, and says which process answered and how many requests it has served.
  static int served = 0;
  response.mutable_data()->set_test_examples(++served);
  response.mutable_data()->set_data_cache(command);
  response.mutable_data()->set_train_examples(getpid());
  std::string frame;
  normlab::server::AppendFrame(response.SerializeAsString(), frame);
  Send(frame);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || std::string(argv[1]) != "--helper") {
    return 2;
  }
  normlab::server::FrameReader reader;
  std::string buffer(65536, '\0');
  while (true) {
    const ssize_t count = read(kSocket, buffer.data(), buffer.size());
    if (count <= 0) {
      return 0;
    }
    reader.Append(absl::string_view(buffer.data(), static_cast<size_t>(count)));
    while (true) {
      const auto frame = reader.Next();
      if (!frame.ok()) {
        return 4;
      }
      if (!frame->has_value()) {
        break;
      }
      HelperRequest request;
      if (!request.ParseFromString(**frame)) {
        return 5;
      }
      Serve(request);
    }
  }
}
