#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "common/subprocess.h"
#include "common/unique_fd.h"
#include "server/executor/helper_process.h"
#include "server/executor/message_framing.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// A process of the worker program with --helper, and our end of the socket to it. It has to be ended with End, which also
// reaps it. Not thread-safe.
class HelperChild {
 public:
  // The error says what the system refused.
  static absl::StatusOr<HelperChild> Start(const HelperProcessOptions& options);

  // Puts the request on its way; the one before it is answered.
  void Send(const v1::HelperRequest& request);

  // For poll: what is waited for, and on what.
  int socket() const { return socket_.get(); }
  int16_t events() const;
  // Reads and writes what is possible without waiting, and appends the answers that came. False: the connection is of no more use.
  bool Exchange(std::vector<v1::HelperResponse>& answers);

  // One that closed its socket is about to end by itself: waits a moment for that, as its own exit status tells more than our
  // SIGKILL.
  void WaitForLastWords() const;

  // A process that was killed and cannot end, because it waits for a disk or a network file system.
  using Doomed = common::Subprocess;
  // Kills the process if it lives, and reaps it. Says how it ended.
  std::string End(std::vector<Doomed>& doomed) &&;
  // Reaps it if it is gone at last.
  static bool IsReaped(const Doomed& process);

 private:
  HelperChild(common::Subprocess process, common::UniqueFd socket)
      : process_(std::move(process)), socket_(std::move(socket)) {}
  bool Read(std::vector<v1::HelperResponse>& answers);
  bool Write();

  common::Subprocess process_;
  common::UniqueFd socket_;
  FrameReader input_;
  std::string output_;
  size_t written_ = 0;  // of output_
};

}  // namespace normlab::server
