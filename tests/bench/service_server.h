#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/channel.h>

#include "common/subprocess.h"

#include "normlab/v1/jobs.grpc.pb.h"

namespace normlab::bench {

// A folder that goes away with everything in it.
class ScratchFolder {
 public:
  // Below `parent`, which is on the disk to be measured.
  explicit ScratchFolder(const std::string& parent);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The real normlabd as a process of its own, with one core and the stand-in worker. Not
// thread-safe; ends the server at its end.
class BenchServer {
 public:
  struct Resources {
    double cpu_seconds = 0;
    int64_t resident_bytes = 0;
  };

  // Waits until it is ready. `data_dir` exists.
  static absl::StatusOr<std::unique_ptr<BenchServer>> Start(
      const std::string& data_dir, const std::vector<std::string>& more_flags = {});
  ~BenchServer();

  const std::string& address() const { return address_; }
  // From the start of the process until it was ready.
  absl::Duration start_time() const { return start_time_; }
  // A channel with a connection of its own.
  std::shared_ptr<grpc::Channel> Connect() const;
  Resources Use() const;
  // SIGTERM, and waits for the end.
  void Stop();

 private:
  BenchServer(common::Subprocess process, std::string address, absl::Duration start_time)
      : process_(std::move(process)), address_(std::move(address)), start_time_(start_time) {}

  common::Subprocess process_;
  std::string address_;
  absl::Duration start_time_;
  bool stopped_ = false;
};

// A spec that the server admits without looking at any file.
v1::JobSpec SmallSpec();

// What a flush of one page takes on the disk of `folder`: median of so many.
absl::StatusOr<absl::Duration> FsyncMedian(const std::string& folder, int times = 200);

}  // namespace normlab::bench
