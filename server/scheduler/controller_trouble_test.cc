// What the machine lacks is no job's fault: it costs neither a retry nor a job.
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/worker_exit.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller.h"
#include "server/scheduler/controller_test_harness.h"
#include "server/scheduler/work_folder.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

// A pause between tries that has grown as far as it does.
constexpr absl::Duration kLongestPause = absl::Minutes(5);

class ControllerTroubleTest : public ControllerTest {
 protected:
  // Lets a second pass again and again until it is so.
  void AdvanceUntil(const std::string& what, const std::function<bool()>& condition) {
    WaitUntil(what, [&] {
      clock_.Advance(absl::Seconds(1));
      return condition();
    });
  }
  std::string Reason(const std::string& id) { return controller_->QueueReasons({id})[id]; }
  void Restart() {
    controller_.reset();
    StartController();
  }
};

TEST_F(ControllerTroubleTest, AWorkerThatCannotBeStartedIsTriedAgain) {
  executor_->SetLaunchStatus(absl::ResourceExhaustedError("too many open files"));
  const std::string id = Submit();
  WaitUntil("it was tried", [&] { return !executor_->launches().empty(); });
  WaitUntilQueuedAgain(id);
  v1::Job job = Get(id);
  EXPECT_EQ(job.attempts_size(), 0) << "an attempt without a process is none";
  EXPECT_THAT(Reason(id), HasSubstr("too many open files"));
  executor_->SetLaunchStatus(absl::OkStatus());
  AdvanceUntil("it is tried again", [&] { return executor_->launches().size() == 2; });
  Run(id, 1);
  EXPECT_EQ(Get(id).attempts_size(), 1);
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).ok());
  WaitForState(id, v1::Job::SUCCEEDED);
}

TEST_F(ControllerTroubleTest, AQueueOutlivesAMachineThatStartsNothing) {
  executor_->SetLaunchStatus(absl::ResourceExhaustedError("too many open files"));
  std::vector<std::string> ids;
  for (int i = 0; i < 12; ++i) {
    ids.push_back(Submit());
  }
  AdvanceUntil("starts are held", [&] { return !Starts().ok(); });
  EXPECT_EQ(Starts().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Starts().message()), HasSubstr("too many open files"));
  // From now on one try at a time, and ever fewer.
  Sync();
  const size_t before = executor_->launches().size();
  for (int minute = 0; minute < 30; ++minute) {
    for (int part = 0; part < 4; ++part) {
      Advance(absl::Seconds(15));
      Sync();
    }
  }
  EXPECT_LE(executor_->launches().size() - before, 40u);
  for (const std::string& id : ids) {
    const v1::Job job = Get(id);
    EXPECT_NE(job.state(), v1::Job::FAILED);
    EXPECT_EQ(job.attempts_size(), job.state() == v1::Job::QUEUED ? 0 : 1);
  }
  executor_->SetLaunchStatus(absl::OkStatus());
  const size_t in_vain = executor_->launches().size();
  AdvanceUntil("one is tried", [&] { return executor_->launches().size() > in_vain; });
  Sync();
  EXPECT_FALSE(Starts().ok()) << "only its hello shows that it works";
  const SubmitRequest first = executor_->launches().back();
  ASSERT_TRUE(Connect(HelloOf(first), std::make_shared<FakeSession>()).ok());
  WaitUntil("starts are released", [&] { return Starts().ok(); });
  AdvanceUntil("the others follow", [&] { return controller_->GetLoad().free_cores == 0; });
}

TEST_F(ControllerTroubleTest, AWishThatComesMeanwhileIsKept) {
  executor_->SetLaunchStatus(absl::ResourceExhaustedError("no processes"));
  for (const bool cancel : {true, false}) {
    helper_.Hold();
    const std::string id = Submit();
    WaitForState(id, v1::Job::STARTING);
    // The wish is durable before the controller hears of it.
    ASSERT_TRUE(store_
                    ->UpdateJobAndWait(id,
                                       [&](v1::Job& job, std::vector<v1::Segment>& records) {
                                         return cancel ? RequestCancel(job, clock_.Now(), records)
                                                       : RequestPause(job, clock_.Now(), records);
                                       })
                    .ok());
    helper_.Release();
    WaitForState(id, cancel ? v1::Job::CANCELLED : v1::Job::PAUSED);
    EXPECT_EQ(Get(id).attempts_size(), 0);
    Advance(kLongestPause);
  }
}

TEST_F(ControllerTroubleTest, AMissingLibraryCostsNoJob) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(Submit());
    WaitForLaunch(ids.back(), 1);
    ASSERT_TRUE(executor_->ExitWithCode({ids.back(), 1}, 127));
  }
  WaitUntil("starts are held", [&] { return !Starts().ok(); });
  EXPECT_THAT(std::string(Starts().message()), HasSubstr("worker program does not start"));
  for (const std::string& id : ids) {
    WaitForState(id, v1::Job::QUEUED);
  }
}

TEST_F(ControllerTroubleTest, AHelperThatCannotBeStartedCostsNoJob) {
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return absl::ResourceExhaustedError("the helper process cannot be started: no memory");
  });
  const std::string id = Submit();
  WaitUntil("it was asked", [&] { return !helper_.requests().empty(); });
  WaitUntilQueuedAgain(id);
  helper_.SetHandler(nullptr);
  AdvanceUntil("it is launched", [&] { return !executor_->launches().empty(); });
}

TEST_F(ControllerTroubleTest, DataThatIsAwayIsWaitedForWithoutHoldingOthersUp) {
  helper_.SetHandler([](const v1::HelperRequest& request) {
    v1::HelperResponse response;
    if (request.inspect_data().has_initial_weights()) {
      response.mutable_data()->set_data_cache("/cache/data");
      return response;
    }
    v1::SpecViolation& violation = *response.mutable_data()->add_violations();
    violation.set_field("data.fashion_mnist.path");
    violation.set_description("/data/tiny does not exist");
    response.mutable_data()->set_lasting(false);  // the machine's, not the file's own
    return response;
  });
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(Submit());
  }
  for (const std::string& id : ids) {
    WaitUntil("it is put off", [&] {
      clock_.Advance(absl::Milliseconds(1));
      return absl::StrContains(Reason(id), "/data/tiny does not exist");
    });
  }
  EXPECT_TRUE(Starts().ok()) << "the machine is in order";
  const std::string other = Submit({.initial_weights = "weights.safetensors"});
  Run(other, 1);
  // The disk is mounted.
  helper_.SetHandler(nullptr);
  for (const std::string& id : ids) {
    EXPECT_NE(Get(id).state(), v1::Job::FAILED);
  }
  AdvanceUntil("they start", [&] { return controller_->GetLoad().free_cores == 0; });
}

TEST_F(ControllerTroubleTest, ALookAtTheDataThatTakesTooLongIsRepeated) {
  int calls = 0;
  helper_.SetHandler([&](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    if (++calls < 3) {
      return absl::DeadlineExceededError("the helper process did not answer within 10m");
    }
    v1::HelperResponse response;
    response.mutable_data()->set_data_cache("/cache/data");
    return response;
  });
  const std::string id = Submit();
  WaitUntil("it is put off", [&] {
    clock_.Advance(absl::Milliseconds(1));
    return absl::StrContains(Reason(id), "did not answer within 10m");
  });
  AdvanceUntil("it is launched", [&] { return !executor_->launches().empty(); });
  EXPECT_EQ(Get(id).attempts_size(), 1);
  EXPECT_TRUE(Starts().ok()) << "the machine is in order";
}

TEST_F(ControllerTroubleTest, ALookAtTheDataThatAlwaysTakesTooLongEndsTheJob) {
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return absl::DeadlineExceededError("the helper process did not answer within 10m");
  });
  const std::string id = Submit();
  AdvanceUntil("it fails", [&] { return Get(id).state() == v1::Job::FAILED; });
  EXPECT_EQ(helper_.requests().size(), 3U);
  EXPECT_EQ(Get(id).failure().reason(), v1::FailureReason::DATA_ERROR);
  EXPECT_THAT(Get(id).failure().message(), HasSubstr("3 times in a row"));
}

TEST_F(ControllerTroubleTest, ADecodedSetThatIsDamagedIsMadeAgainAFewTimes) {
  const std::string id = Submit();
  for (size_t i = 1; i <= 2; ++i) {
    AdvanceUntil("it is launched", [&] { return executor_->launches().size() == i; });
    ASSERT_TRUE(executor_->ExitWithCode({id, 1}, common::kExitDataUnusable));
    WaitForState(id, v1::Job::QUEUED);
    EXPECT_EQ(Get(id).attempts_size(), 0) << "as if it had not begun";
  }
  AdvanceUntil("it is launched", [&] { return executor_->launches().size() == 3; });
  EXPECT_EQ(helper_.requests().size(), 3U) << "asked each time";
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, common::kExitDataUnusable));
  const v1::Failure failure = WaitForState(id, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::DATA_ERROR);
  EXPECT_THAT(failure.message(), HasSubstr("decoded data set"));
  EXPECT_TRUE(Starts().ok()) << "the machine is in order";
}

TEST_F(ControllerTroubleTest, NothingStartsInAFolderThatIsNotTheWorkFolder) {
  start_options_.work_mark = "the right one";
  Restart();
  const std::string id = Submit();
  WaitUntil("starts are held", [&] { return !Starts().ok(); });
  EXPECT_THAT(std::string(Starts().message()), HasSubstr("is its disk mounted?"));
  EXPECT_THAT(Reason(id), HasSubstr("is its disk mounted?"));
  EXPECT_FALSE(std::filesystem::exists(options_.work_dir + "/jobs"));
  std::ofstream(options_.work_dir + "/" + kWorkMarkFile) << "another one";
  Advance(absl::Seconds(1));
  Sync();
  Sync();
  EXPECT_FALSE(Starts().ok());
  EXPECT_EQ(Get(id).state(), v1::Job::QUEUED);
  std::ofstream(options_.work_dir + "/" + kWorkMarkFile) << "the right one\n";
  AdvanceUntil("it starts", [&] { return !executor_->launches().empty(); });
  EXPECT_TRUE(Starts().ok());
}

TEST_F(ControllerTroubleTest, AFolderThatGoesWhileTheDataIsLookedAtIsNotMadeAnew) {
  start_options_.work_mark = "mark";
  std::ofstream(options_.work_dir + "/" + kWorkMarkFile) << "mark";
  Restart();
  helper_.Hold();
  const std::string id = Submit();
  WaitForState(id, v1::Job::STARTING);
  std::filesystem::rename(options_.work_dir, options_.work_dir + ".away");
  std::filesystem::create_directories(options_.work_dir);
  helper_.Release();
  WaitForState(id, v1::Job::QUEUED);
  EXPECT_FALSE(std::filesystem::exists(options_.work_dir + "/jobs"));
  EXPECT_TRUE(executor_->launches().empty());
}

TEST_F(ControllerTroubleTest, NothingStartsWithoutRoom) {
  start_options_.least_free_bytes = int64_t{1} << 60;
  Restart();
  const std::string id = Submit();
  WaitUntil("starts are held", [&] { return !Starts().ok(); });
  EXPECT_THAT(std::string(Starts().message()), HasSubstr("is full"));
  EXPECT_EQ(Get(id).attempts_size(), 0);
  EXPECT_EQ(store_->ReadRecords(id, 0, 1 << 20)->last_sequence, 1) << "no record of any try";
}

TEST_F(ControllerTroubleTest, AWorkerWhoseFolderWentAwayCostsNoRetry) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  controller_->Disconnected({id, 1}, session.get());
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, common::kExitFenced));
  WaitForLaunch(id, 2);
  EXPECT_EQ(Get(id).attempts(0).failure().reason(), v1::FailureReason::NODE_FAILED);
}

}  // namespace
}  // namespace normlab::server
