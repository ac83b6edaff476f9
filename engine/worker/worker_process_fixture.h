#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/atomic_file.h"
#include "common/ids.h"
#include "common/subprocess.h"
#include "common/unique_fd.h"
#include "common/worker_exit.h"
#include "engine/data/testing.h"
#include "engine/spec/resolve.h"
#include "engine/worker/fake_server.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

inline constexpr int kDeadlineMs = 60'000;  // of things that take a second
inline constexpr int32_t kTrainExamples = 533;
inline constexpr int32_t kTestExamples = 97;
inline constexpr int32_t kBatchSize = 41;

// For tests: starts the program normlab-worker as the server does, against a server of the test.
class WorkerProcessTest : public ::testing::Test {
 protected:
  WorkerProcessTest()
      : folder_(absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()))) {
    std::filesystem::create_directories(folder_);
    cache_ = absl::StrCat(folder_, "/data.cache");
    const DatasetShape shape{1, 28, 28, 10, kTrainExamples, kTestExamples};
    EXPECT_TRUE(WriteDataset(testing::MakePatterns(shape, 5), cache_).ok());
    server_ = std::make_unique<FakeServer>(absl::StrCat(folder_, "/worker.sock"));
  }
  ~WorkerProcessTest() override {
    if (worker_.has_value() && !worker_->HasEnded()) {
      EXPECT_TRUE(worker_->Signal(SIGKILL).ok());
      Wait();
    }
    server_->Stop();
    std::filesystem::remove_all(folder_);
  }

  static v1::JobSpec Spec(int32_t steps) {
    v1::JobSpec spec;
    v1::Mlp& mlp = *spec.mutable_model()->mutable_mlp();
    mlp.add_hidden(37);
    mlp.add_hidden(23);
    spec.mutable_normalization()->mutable_batch();
    spec.mutable_data()->mutable_fashion_mnist();
    spec.set_batch_size(kBatchSize);
    spec.set_steps(steps);
    spec.set_seed(11);
    spec.mutable_evaluation()->set_every_steps(17);
    return Resolve(spec);
  }

  v1::WorkerAssignment Assignment(const v1::JobSpec& resolved, int32_t attempt = 1) {
    v1::WorkerAssignment assignment;
    assignment.set_job("jobs/abc");
    assignment.set_attempt(attempt);
    assignment.set_secret("sesame");
    assignment.set_server(server_->target());
    *assignment.mutable_resolved_spec() = resolved;
    assignment.set_data_cache(cache_);
    // A worker that outlives its test does not outlive it for long.
    assignment.set_orphan_timeout_ms(kDeadlineMs);
    assignment.set_attempt_folder(absl::StrCat(folder_, "/work/jobs/abc/attempt-", attempt));
    std::filesystem::create_directories(assignment.attempt_folder());
    return assignment;
  }

  // Starts the program with `fd` as its descriptor 3.
  void Start(const std::vector<std::string>& arguments, int fd) {
    common::SubprocessOptions options;
    options.argv = {NORMLAB_WORKER_BINARY};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    options.environment = {"OMP_NUM_THREADS=1", "PATH=/usr/bin:/bin"};
    options.environment.insert(options.environment.end(), more_environment_.begin(),
                               more_environment_.end());
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"}) {
      if (const char* value = getenv(name); value != nullptr) {
        options.environment.push_back(absl::StrCat(name, "=", value));
      }
    }
    options.inherited_fd = fd;
    options.output_path = absl::StrCat(folder_, "/worker.log");
    auto worker = common::Subprocess::Start(options);
    ASSERT_TRUE(worker.ok()) << worker.status();
    worker_.emplace(*std::move(worker));
  }
  void StartRun(const v1::WorkerAssignment& assignment) {
    const common::UniqueFd file(memfd_create("assignment", MFD_CLOEXEC));
    const std::string bytes = assignment.SerializeAsString();
    ASSERT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ASSERT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
    Start({"--run"}, file.get());
  }
  // The exit, or the number of the signal plus 1000.
  int Wait() {
    pollfd ended{worker_->pidfd(), POLLIN, 0};
    if (poll(&ended, 1, kDeadlineMs) != 1) {
      ADD_FAILURE() << "the worker does not end";
      EXPECT_TRUE(worker_->Signal(SIGKILL).ok());
      poll(&ended, 1, kDeadlineMs);
    }
    const auto exit = worker_->Reap();
    EXPECT_TRUE(exit.ok()) << exit.status();
    return exit->by_signal ? 1000 + exit->code : exit->code;
  }
  std::string Log() const {
    return common::ReadFile(absl::StrCat(folder_, "/worker.log")).value_or("no log");
  }

  // A whole undisturbed run with a server of its own.
  struct Finished {
    std::vector<UnpackedPoint> points;
    v1::Outcome outcome;
  };
  Finished Collect() const {
    const FakeServer::Seen seen = server_->seen();
    EXPECT_EQ(seen.gaps, 0);
    Finished finished{Unpack(seen.reports), {}};
    if (seen.reports.empty()) {
      ADD_FAILURE() << "no report came; the worker's log:\n" << Log();
    } else {
      finished.outcome = seen.reports.back().outcome();
    }
    return finished;
  }
  void NewServer() {
    server_->Stop();
    server_ = std::make_unique<FakeServer>(
        absl::StrCat(folder_, "/", common::NewId(absl::Now()), ".sock"));
    server_->Start();
  }
  Finished RunToTheEnd(const v1::JobSpec& resolved, int32_t attempt) {
    NewServer();
    StartRun(Assignment(resolved, attempt));
    EXPECT_EQ(Wait(), common::kExitDone) << Log();
    return Collect();
  }

  const std::string folder_;
  std::string cache_;
  std::unique_ptr<FakeServer> server_;
  std::vector<std::string> more_environment_;  // NAME=VALUE
  std::optional<common::Subprocess> worker_;
};

}  // namespace normlab::engine
