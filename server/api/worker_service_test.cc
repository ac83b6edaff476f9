#include "server/api/worker_service.h"

#include <signal.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>

#include "server/api/worker_service_test_support.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

class CountingObserver final : public Observer {
 public:
  void OnReport(v1::Model::KindCase model,
                int64_t steps,
                int64_t examples,
                absl::Span<const float> step_seconds,
                int64_t points) override {
    absl::MutexLock lock(&mu_);
    steps_ += steps;
    examples_ += examples;
    points_ += points;
    model_ = model;
    EXPECT_EQ(step_seconds.size(), static_cast<size_t>(steps));
  }
  void OnCheckpoint(double seconds, int64_t bytes) override {
    absl::MutexLock lock(&mu_);
    checkpoints_.emplace_back(seconds, bytes);
  }
  v1::Model::KindCase model() const {
    absl::MutexLock lock(&mu_);
    return model_;
  }
  std::vector<std::pair<double, int64_t>> checkpoints() const {
    absl::MutexLock lock(&mu_);
    return checkpoints_;
  }
  std::vector<int64_t> counts() const {
    absl::MutexLock lock(&mu_);
    return {steps_, examples_, points_};
  }

 private:
  mutable absl::Mutex mu_;
  int64_t steps_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t examples_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t points_ ABSL_GUARDED_BY(mu_) = 0;
  v1::Model::KindCase model_ ABSL_GUARDED_BY(mu_) = v1::Model::KIND_NOT_SET;
  std::vector<std::pair<double, int64_t>> checkpoints_ ABSL_GUARDED_BY(mu_);
};

class WorkerServiceTest : public ControllerTest {
 protected:
  void SetUp() override {
    ControllerTest::SetUp();
    gated_store_ = std::make_unique<GatedStore>(*store_);
    service_ = std::make_unique<WorkerService>(*gated_store_, *controller_, hub_, observer_);
    const std::string target = "unix:" + data_dir_ + "/worker.sock";
    grpc::ServerBuilder builder;
    builder.AddListeningPort(target, grpc::InsecureServerCredentials());
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::Worker::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
    id_ = Submit();
    hello_ = HelloOf(WaitForLaunch(id_, 1));
  }

  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    ControllerTest::TearDown();
  }

  // Steps (number - 1) * 10 ... number * 10 - 1, one point each.
  static v1::WorkerReport TenSteps(int64_t number) {
    v1::WorkerReport report;
    report.set_number(number);
    if (number == 1) {
      report.add_new_series()->set_id(7);
      report.mutable_new_series(0)->set_name("train/loss");
    }
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(7);
    for (int64_t step = (number - 1) * 10; step < number * 10; ++step) {
      block.add_steps(step);
      block.add_values(1.0 / static_cast<double>(step + 1));
      block.add_elapsed_us(step * 100);
      report.add_step_seconds(0.0001F);
    }
    report.set_examples(640);
    return report;
  }

  static v1::WorkerReport LastReport(int64_t number) {
    v1::WorkerReport report;
    report.set_number(number);
    report.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
    report.mutable_outcome()->mutable_result()->set_steps((number - 1) * 10);
    return report;
  }

  std::vector<int64_t> StoredSteps() {
    std::vector<int64_t> all;
    const absl::Status read = store_->ReadMetrics(
        {.job_id = id_},
        [&all](const std::string&, absl::Span<const int64_t> steps, absl::Span<const double>) {
          all.insert(all.end(), steps.begin(), steps.end());
          return true;
        });
    EXPECT_TRUE(read.ok()) << read;
    return all;
  }

  void ExpectStepsStoredOnce(int64_t count) {
    const std::vector<int64_t> steps = StoredSteps();
    ASSERT_EQ(steps.size(), static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(steps[static_cast<size_t>(i)], i);
    }
  }

  Hub hub_;
  CountingObserver observer_;
  std::unique_ptr<GatedStore> gated_store_;
  std::unique_ptr<WorkerService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::string id_;
  v1::Hello hello_;
};

TEST_F(WorkerServiceTest, CarriesAnAttemptFromHelloToOutcome) {
  Connection connection(*stub_);
  const auto welcome = connection.Greet(hello_);
  ASSERT_TRUE(welcome.has_value());
  EXPECT_EQ(welcome->last_report(), 0);
  EXPECT_EQ(Get(id_).state(), v1::Job::RUNNING);
  for (int64_t number = 1; number <= 30; ++number) {
    ASSERT_TRUE(connection.Send(TenSteps(number)));
  }
  ASSERT_TRUE(connection.Send(LastReport(31)));
  EXPECT_TRUE(connection.ReadAcksUpTo(31));
  EXPECT_EQ(Get(id_).state(), v1::Job::SUCCEEDED) << "stored before it is acknowledged";
  EXPECT_TRUE(connection.Finish().ok());
  ExpectStepsStoredOnce(300);
  EXPECT_THAT(observer_.counts(), ElementsAre(300, 30 * 640, 300));
  ASSERT_TRUE(executor_->ExitWithCode({id_, 1}, 0));
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
}

TEST_F(WorkerServiceTest, TheWorkerLearnsWhetherSomebodyFollowsItsJob) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  const auto next_audience = [&]() -> std::optional<bool> {
    const auto message = connection.Read();
    return message.has_value() && message->has_audience()
               ? std::optional(message->audience().watching())
               : std::nullopt;
  };
  auto other_job = hub_.Subscribe("another", [] {});
  auto first = hub_.Subscribe(id_, [] {});
  EXPECT_THAT(next_audience(), Optional(true));
  auto second = hub_.Subscribe(id_, [] {});
  first.reset();
  second.reset();
  EXPECT_THAT(next_audience(), Optional(false)) << "said once, when the last one left";

  auto third = hub_.Subscribe(id_, [] {});
  EXPECT_THAT(next_audience(), Optional(true));
  connection.Break();
  Connection again(*stub_);
  ASSERT_TRUE(again.Greet(hello_).has_value());
  const auto message = again.Read();
  ASSERT_TRUE(message.has_value() && message->has_audience());
  EXPECT_TRUE(message->audience().watching()) << "a new connection is told anew";
}

TEST_F(WorkerServiceTest, TellsWhatItTrainsWhatItSavedAndForHowLongItWasSilent) {
  EXPECT_EQ(service_->OldestReportAge(), absl::ZeroDuration()) << "no worker is connected";
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  WaitUntil("it has been silent for a while",
            [&] { return service_->OldestReportAge() > absl::Milliseconds(50); });
  v1::WorkerReport report = TenSteps(1);
  report.mutable_checkpoint()->set_step(10);
  report.mutable_checkpoint()->set_folder("jobs/" + id_ + "/attempt-1/checkpoint-10");
  report.mutable_checkpoint()->set_bytes(1234);
  report.mutable_checkpoint()->set_seconds(0.5);
  const absl::Time sent = absl::Now();
  ASSERT_TRUE(connection.Send(report));
  ASSERT_TRUE(connection.ReadAcksUpTo(1));
  EXPECT_LE(service_->OldestReportAge(), absl::Now() - sent);
  EXPECT_EQ(observer_.model(), v1::Model::kMlp);
  EXPECT_THAT(observer_.checkpoints(), ElementsAre(std::make_pair(0.5, int64_t{1234})));
  ASSERT_TRUE(connection.Send(LastReport(2)));
  EXPECT_TRUE(connection.ReadAcksUpTo(2));
  EXPECT_TRUE(connection.Finish().ok());
  WaitUntil("nobody is heard of any more",
            [&] { return service_->OldestReportAge() == absl::ZeroDuration(); });
}

TEST_F(WorkerServiceTest, TheFirstMessageAndOnlyThatIsAHello) {
  Connection rude(*stub_);
  rude.Send(TenSteps(1));
  EXPECT_EQ(rude.Ended().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  Connection empty(*stub_);
  EXPECT_TRUE(empty.Finish().ok());
  Connection twice(*stub_);
  ASSERT_TRUE(twice.Greet(hello_).has_value());
  twice.Send(hello_);
  EXPECT_EQ(twice.Ended().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // None of this has hurt the attempt.
  Connection polite(*stub_);
  ASSERT_TRUE(polite.Greet(hello_).has_value());
  polite.Send(TenSteps(1));
  EXPECT_TRUE(polite.ReadAcksUpTo(1));
}

TEST_F(WorkerServiceTest, StrangersAndZombiesAreToldApart) {
  v1::Hello stranger = hello_;
  stranger.set_secret("guessed");
  Connection first(*stub_);
  first.Send(stranger);
  EXPECT_EQ(first.Ended().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  ExitBySignal({id_, 1}, SIGKILL);
  WaitForState(id_, v1::Job::FAILED);
  Connection second(*stub_);
  second.Send(hello_);
  EXPECT_EQ(second.Ended().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

// The same service where strangers can connect.
class NetworkWorkerServiceTest : public WorkerServiceTest {
 protected:
  void SetUp() override {
    WorkerServiceTest::SetUp();
    network_service_ = std::make_unique<WorkerService>(*gated_store_, *controller_, hub_, observer_,
                                                       WorkerService::Reach::kNetwork);
    const std::string target = "unix:" + data_dir_ + "/network.sock";
    grpc::ServerBuilder builder;
    builder.AddListeningPort(target, grpc::InsecureServerCredentials());
    builder.RegisterService(network_service_.get());
    network_server_ = builder.BuildAndStart();
    ASSERT_NE(network_server_, nullptr);
    network_ = v1::Worker::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    network_server_->Shutdown(std::chrono::system_clock::now());
    network_server_->Wait();
    WorkerServiceTest::TearDown();
  }

  std::unique_ptr<WorkerService> network_service_;
  std::unique_ptr<grpc::Server> network_server_;
  std::unique_ptr<v1::Worker::Stub> network_;
};

TEST_F(NetworkWorkerServiceTest, AWorkerIsServedAsOnThisMachine) {
  Connection connection(*network_, hello_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  connection.Send(TenSteps(1));
  EXPECT_TRUE(connection.ReadAcksUpTo(1));
  connection.Send(LastReport(2));
  EXPECT_TRUE(connection.ReadAcksUpTo(2));
  EXPECT_EQ(Get(id_).state(), v1::Job::SUCCEEDED);
}

TEST_F(NetworkWorkerServiceTest, StrangersAreRefusedBeforeTheySayAnything) {
  v1::Hello wrong_secret = hello_;
  wrong_secret.set_secret(std::string(32, 'x'));
  v1::Hello short_secret = hello_;
  short_secret.set_secret("x");
  v1::Hello no_such_attempt = hello_;
  no_such_attempt.set_attempt(2);
  v1::Hello no_such_job = hello_;
  no_such_job.set_job("jobs/aaaaaaaaaaaaaaaaaaaaaaaaaa");
  v1::Hello no_job = hello_;
  no_job.set_job("../passwd");
  for (const v1::Hello& hello :
       {wrong_secret, short_secret, no_such_attempt, no_such_job, no_job, v1::Hello()}) {
    Connection connection(*network_, hello);
    EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::UNAUTHENTICATED)
        << hello.ShortDebugString();
  }
  // Not even with a good hello where it is too late.
  Connection connection(*network_);
  connection.Send(hello_);
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Get(id_).state(), v1::Job::STARTING);
}

TEST_F(NetworkWorkerServiceTest, StrangersAreNoneOfTheSchedulersBusiness) {
  controller_->Stop();
  v1::Hello hello = hello_;
  hello.set_secret(std::string(32, 'x'));
  Connection stranger(*network_, hello);
  EXPECT_EQ(stranger.Ended().error_code(), grpc::StatusCode::UNAUTHENTICATED)
      << "nobody had to be asked";
  Connection worker(*network_, hello_);
  worker.Send(hello_);
  EXPECT_EQ(worker.Ended().error_code(), grpc::StatusCode::UNAVAILABLE) << "it comes back";
}

TEST_F(NetworkWorkerServiceTest, AFencedAttemptIsToldSo) {
  ExitBySignal({id_, 1}, SIGKILL);
  WaitForState(id_, v1::Job::FAILED);
  Connection connection(*network_, hello_);
  connection.Send(hello_);
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(WorkerServiceTest, AWorkerCannotSpeakForAnotherJob) {
  const std::string other = Submit();
  const v1::Hello other_hello = HelloOf(WaitForLaunch(other, 1));
  // Its own secret, another's job; and the other way round.
  for (const auto& [job, secret] : {std::pair{other_hello.job(), hello_.secret()},
                                    std::pair{hello_.job(), other_hello.secret()}}) {
    v1::Hello impostor = hello_;
    impostor.set_job(job);
    impostor.set_secret(secret);
    Connection connection(*stub_);
    connection.Send(impostor);
    EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  for (const char* job : {"", "jobs/", "jobs/../../x", "jobs/00000000000000000000"}) {
    v1::Hello nobody = hello_;
    nobody.set_job(job);
    Connection connection(*stub_);
    connection.Send(nobody);
    EXPECT_FALSE(connection.Ended().ok()) << job;
  }
  // Neither has lost anything by it.
  Connection honest(*stub_);
  ASSERT_TRUE(honest.Greet(hello_).has_value());
  honest.Send(TenSteps(1));
  EXPECT_TRUE(honest.ReadAcksUpTo(1));
}

TEST_F(WorkerServiceTest, WhatWasNotAcknowledgedIsSentAgainAndStoredOnce) {
  {
    Connection broken(*stub_);
    ASSERT_TRUE(broken.Greet(hello_).has_value());
    for (int64_t number = 1; number <= 5; ++number) {
      ASSERT_TRUE(broken.Send(TenSteps(number)));
    }
    ASSERT_TRUE(broken.Read().has_value());
    broken.Break();
  }
  Connection connection(*stub_);
  const auto welcome = connection.Greet(hello_);
  ASSERT_TRUE(welcome.has_value());
  EXPECT_GE(welcome->last_report(), 1);
  EXPECT_LE(welcome->last_report(), 5);
  // From the very first: those that are stored are answered and change nothing.
  for (int64_t number = 1; number <= 6; ++number) {
    ASSERT_TRUE(connection.Send(TenSteps(number)));
  }
  EXPECT_TRUE(connection.ReadAcksUpTo(6));
  ExpectStepsStoredOnce(60);
}

TEST_F(WorkerServiceTest, AFencedAttemptIsToldToGo) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  v1::Failure failure;
  failure.set_reason(v1::FailureReason::SERVER_LOST);
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(id_,
                                     [&](v1::Job& job, std::vector<v1::Segment>& records) {
                                       return LoseAttempt(job, 1, failure, clock_.Now(), records);
                                     })
                  .ok());
  connection.Send(TenSteps(1));
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(StoredSteps().empty());
}

TEST_F(WorkerServiceTest, AGapIsRefused) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  connection.Send(TenSteps(1));
  connection.Send(TenSteps(3));
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  ExpectStepsStoredOnce(10);
}

TEST_F(WorkerServiceTest, ASlowStoreSlowsTheWorkerDown) {
  gated_store_->Hold();
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  constexpr int64_t kReports = 20;
  for (int64_t number = 1; number <= kReports; ++number) {
    ASSERT_TRUE(connection.Send(TenSteps(number)));
  }
  WaitUntil("as many as may be are in flight",
            [&] { return gated_store_->held() == WorkerService::kMaxReportsInFlight; });
  Sync();
  EXPECT_EQ(gated_store_->held(), static_cast<size_t>(WorkerService::kMaxReportsInFlight));
  gated_store_->Release();
  EXPECT_TRUE(connection.ReadAcksUpTo(kReports));
  std::vector<int64_t> in_order(kReports);
  for (int64_t i = 0; i < kReports; ++i) {
    in_order[static_cast<size_t>(i)] = i + 1;
  }
  EXPECT_EQ(gated_store_->numbers(), in_order);
}

TEST_F(WorkerServiceTest, AStoreThatCannotWriteMakesTheWorkerComeBack) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  connection.Send(TenSteps(1));
  ASSERT_TRUE(connection.ReadAcksUpTo(1));
  gated_store_->Refuse(2, absl::ResourceExhaustedError("the disk is full"));
  connection.Send(TenSteps(2));
  connection.Send(TenSteps(3));  // refused for the gap that 2 leaves; the first reason counts
  const grpc::Status status = connection.Ended();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  gated_store_->Refuse(0, absl::OkStatus());
  Connection again(*stub_);
  const auto welcome = again.Greet(hello_);
  ASSERT_TRUE(welcome.has_value());
  EXPECT_EQ(welcome->last_report(), 1);
  again.Send(TenSteps(2));
  again.Send(TenSteps(3));
  EXPECT_TRUE(again.ReadAcksUpTo(3));
  ExpectStepsStoredOnce(30);
}

TEST_F(WorkerServiceTest, AReportThatBreaksTheProtocolIsNotAskedForAgain) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  gated_store_->Refuse(1, absl::InvalidArgumentError("a block without steps"));
  connection.Send(TenSteps(1));
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  const v1::Failure failure = WaitForState(id_, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::INTERNAL);
  EXPECT_THAT(failure.message(), ::testing::HasSubstr("a block without steps"));
}

TEST_F(WorkerServiceTest, DamagedRecordsEndTheWorkerAndTheJob) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  gated_store_->Refuse(1, absl::DataLossError("a stored chunk cannot be decoded"));
  connection.Send(TenSteps(1));
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::DATA_LOSS);
  const v1::Failure failure = WaitForState(id_, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::DATA_LOSS);
  EXPECT_THAT(failure.message(), ::testing::HasSubstr("a stored chunk cannot be decoded"));
}

TEST_F(WorkerServiceTest, ACancellationReachesTheWorker) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  RequestCancelOf(id_);
  const auto message = connection.Read();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->stop().kind(), v1::StopRequest::CANCEL);
  v1::WorkerReport last = LastReport(1);
  last.mutable_outcome()->set_state(v1::Job::CANCELLED);
  connection.Send(last);
  EXPECT_TRUE(connection.ReadAcksUpTo(1));
  EXPECT_EQ(Get(id_).state(), v1::Job::CANCELLED);
}

TEST_F(WorkerServiceTest, ADeadWorkerIsNoticedAtOnce) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  connection.Send(TenSteps(1));
  ASSERT_TRUE(connection.ReadAcksUpTo(1));
  // The clock stands still: no grace has to run out.
  connection.Break();
  ExitBySignal({id_, 1}, SIGKILL);
  EXPECT_EQ(WaitForState(id_, v1::Job::FAILED).failure().reason(),
            v1::FailureReason::WORKER_CRASHED);
  ExpectStepsStoredOnce(10);
}

TEST_F(WorkerServiceTest, ALastReportThatIsStillBeingStoredOutlivesItsWorker) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  gated_store_->Hold();
  connection.Send(TenSteps(1));
  connection.Send(LastReport(2));
  WaitUntil("both are in flight", [&] { return gated_store_->held() == 2; });
  ASSERT_TRUE(executor_->ExitWithCode({id_, 1}, 0));
  connection.Break();
  Sync();
  EXPECT_EQ(Get(id_).state(), v1::Job::RUNNING);
  gated_store_->Release();
  WaitForState(id_, v1::Job::SUCCEEDED);
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
  EXPECT_EQ(Get(id_).state(), v1::Job::SUCCEEDED);
}

TEST_F(WorkerServiceTest, StopOfTheServerSendsWorkersAwayToComeBack) {
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  controller_->Stop();
  EXPECT_EQ(connection.Ended().error_code(), grpc::StatusCode::UNAVAILABLE);
  Connection late(*stub_);
  late.Send(hello_);
  EXPECT_EQ(late.Ended().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WorkerServiceTest, ManyConnectionsComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    Connection connection(*stub_);
    connection.Send(hello_);
    if (i % 3 == 0) {
      connection.Read();
    }
    connection.Break();
  }
  // The hello of a broken connection may be handled last and take over; whoever was sent away
  // connects again, as workers do.
  WaitUntil("the last report is acknowledged", [&] {
    Connection connection(*stub_);
    if (!connection.Greet(hello_).has_value()) {
      return false;
    }
    connection.Send(LastReport(1));
    return connection.ReadAcksUpTo(1) && connection.Finish().ok();
  });
}

}  // namespace
}  // namespace normlab::server
