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

#include "server/domain/transitions.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;

// A store whose reports can be held back, or refused, before they get to the real one.
class GatedStore final : public Store {
 public:
  explicit GatedStore(Store& real) : real_(real) {}

  void Hold() {
    absl::MutexLock lock(&mu_);
    hold_ = true;
  }
  void Release() {
    std::vector<std::function<void()>> held;
    {
      absl::MutexLock lock(&mu_);
      hold_ = false;
      held.swap(held_);
    }
    for (const auto& append : held) {
      append();
    }
  }
  // Of the reports to come, those with this number are refused, until it is set to 0.
  void Refuse(int64_t number, absl::Status status) {
    absl::MutexLock lock(&mu_);
    refused_number_ = number;
    refusal_ = std::move(status);
  }
  size_t held() const {
    absl::MutexLock lock(&mu_);
    return held_.size();
  }
  std::vector<int64_t> numbers() const {
    absl::MutexLock lock(&mu_);
    return numbers_;
  }

  void AppendReport(AttemptKey attempt,
                    v1::WorkerReport report,
                    absl::AnyInvocable<void(absl::StatusOr<AppendResult>) &&> done) override {
    absl::Status refusal;
    {
      absl::MutexLock lock(&mu_);
      numbers_.push_back(report.number());
      if (hold_) {
        auto shared = std::make_shared<decltype(done)>(std::move(done));
        held_.push_back([this, attempt, report, shared] {
          real_.AppendReport(attempt, report, std::move(*shared));
        });
        return;
      }
      if (report.number() == refused_number_) {
        refusal = refusal_;
      }
    }
    if (!refusal.ok()) {
      std::move(done)(refusal);
      return;
    }
    real_.AppendReport(std::move(attempt), std::move(report), std::move(done));
  }

  void CreateJob(v1::Job job,
                 std::string request_id,
                 std::string request_sha256,
                 absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&> done) override {
    real_.CreateJob(std::move(job), std::move(request_id), std::move(request_sha256),
                    std::move(done));
  }
  void UpdateJob(std::string job_id,
                 Mutator mutate,
                 std::optional<AttemptSecrets> secrets,
                 JobCallback done) override {
    real_.UpdateJob(std::move(job_id), std::move(mutate), std::move(secrets), std::move(done));
  }
  void SetCommitListener(CommitListener listener) override {
    real_.SetCommitListener(std::move(listener));
  }
  void SetCommitObserver(CommitObserver observer) override {
    real_.SetCommitObserver(std::move(observer));
  }
  absl::StatusOr<std::optional<v1::Job>> FindRequest(const std::string& owner,
                                                     const std::string& request_id,
                                                     const std::string& request_sha256) override {
    return real_.FindRequest(owner, request_id, request_sha256);
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id) override {
    return real_.GetJob(job_id);
  }
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   int page_size,
                                   const std::string& page_token) override {
    return real_.ListJobs(filter, page_size, page_token);
  }
  absl::StatusOr<std::vector<v1::Job>> UnfinishedJobs() override { return real_.UnfinishedJobs(); }
  absl::StatusOr<AttemptSecrets> GetAttemptSecrets(const AttemptKey& attempt) override {
    return real_.GetAttemptSecrets(attempt);
  }
  absl::StatusOr<RecordPage> ReadRecords(const std::string& job_id,
                                         int64_t after,
                                         int64_t max_bytes) override {
    return real_.ReadRecords(job_id, after, max_bytes);
  }
  absl::StatusOr<std::vector<v1::Series>> ReadSeries(const std::string& job_id) override {
    return real_.ReadSeries(job_id);
  }
  absl::Status ReadMetrics(const MetricQuery& query,
                           const std::function<bool(const std::string&,
                                                    absl::Span<const int64_t>,
                                                    absl::Span<const double>)>& sink) override {
    return real_.ReadMetrics(query, sink);
  }
  std::vector<std::pair<v1::Job::State, int64_t>> CountByState() override {
    return real_.CountByState();
  }
  absl::Status Health() override { return real_.Health(); }
  void Close() override { real_.Close(); }

 private:
  Store& real_;
  mutable absl::Mutex mu_;
  bool hold_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> held_ ABSL_GUARDED_BY(mu_);
  int64_t refused_number_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> numbers_ ABSL_GUARDED_BY(mu_);
};

class CountingObserver final : public Observer {
 public:
  void OnReport(int64_t steps,
                int64_t examples,
                absl::Span<const float> step_seconds,
                int64_t points) override {
    absl::MutexLock lock(&mu_);
    steps_ += steps;
    examples_ += examples;
    points_ += points;
    EXPECT_EQ(step_seconds.size(), static_cast<size_t>(steps));
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
};

// A worker's end of one connection.
class Connection {
 public:
  explicit Connection(v1::Worker::Stub& stub) : stream_(stub.Report(&context_)) {}
  ~Connection() {
    if (stream_ != nullptr) {
      Break();
    }
  }

  bool Send(const v1::Hello& hello) {
    v1::WorkerMessage message;
    *message.mutable_hello() = hello;
    return stream_->Write(message);
  }
  bool Send(const v1::WorkerReport& report) {
    v1::WorkerMessage message;
    *message.mutable_report() = report;
    return stream_->Write(message);
  }
  // The next message; nothing when the stream is over.
  std::optional<v1::ServerMessage> Read() {
    v1::ServerMessage message;
    return stream_->Read(&message) ? std::optional(message) : std::nullopt;
  }
  // Says hello and returns the welcome.
  std::optional<v1::Welcome> Greet(const v1::Hello& hello) {
    Send(hello);
    const auto message = Read();
    return message.has_value() && message->has_welcome() ? std::optional(message->welcome())
                                                         : std::nullopt;
  }
  // Reads acknowledgements up to that of report `number`; false when something else comes, or they
  // go back.
  bool ReadAcksUpTo(int64_t number) {
    while (last_ack_ < number) {
      const auto message = Read();
      if (!message.has_value() || !message->has_ack() || message->ack().report() <= last_ack_) {
        return false;
      }
      last_ack_ = message->ack().report();
    }
    return last_ack_ == number;
  }
  // Reads to the end and returns the stream's status.
  grpc::Status Finish() {
    stream_->WritesDone();
    return Ended();
  }
  // The same, where the server ends it.
  grpc::Status Ended() {
    while (Read().has_value()) {
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return status;
  }
  // As if the process had died.
  void Break() {
    context_.TryCancel();
    Ended();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>> stream_;
  int64_t last_ack_ = 0;
};

class WorkerServiceTest : public ControllerTest {
 protected:
  void SetUp() override {
    ControllerTest::SetUp();
    gated_store_ = std::make_unique<GatedStore>(*store_);
    service_ = std::make_unique<WorkerService>(*gated_store_, *controller_, observer_);
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
  Connection connection(*stub_);
  ASSERT_TRUE(connection.Greet(hello_).has_value());
  connection.Send(LastReport(1));
  EXPECT_TRUE(connection.ReadAcksUpTo(1));
  EXPECT_TRUE(connection.Finish().ok());
}

}  // namespace
}  // namespace normlab::server
