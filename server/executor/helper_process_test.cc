#include "server/executor/helper_process.h"

#include <signal.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/clock.h"
#include "server/executor/message_framing.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;
using Response = absl::StatusOr<v1::HelperResponse>;

// No call here takes as long; only a bug does.
constexpr absl::Duration kLong = absl::Seconds(60);

v1::HelperRequest Request(std::string command) {
  v1::HelperRequest request;
  request.mutable_inspect_data()->set_cache_folder(std::move(command));
  return request;
}

std::unique_ptr<Helper> MakeHelper(bool timeout_from_sending = false) {
  HelperProcessOptions options;
  options.timeout_from_sending = timeout_from_sending;
  options.worker_binary = NORMLAB_TEST_CHILD;
  options.min_restart_delay = absl::Milliseconds(1);
  options.max_restart_delay = absl::Milliseconds(20);
  auto helper = NewHelperProcess(options);
  EXPECT_TRUE(helper.ok()) << helper.status();
  return *std::move(helper);
}

std::future<Response> CallAsync(Helper& helper,
                                std::string command,
                                absl::Duration timeout = kLong) {
  auto promise = std::make_shared<std::promise<Response>>();
  helper.Call(Request(std::move(command)), timeout,
              [promise](Response response) { promise->set_value(std::move(response)); });
  return promise->get_future();
}

TEST(MessageFramingTest, CutsFramesHoweverTheBytesArrive) {
  std::string bytes;
  const std::vector<std::string> messages = {"", "a", std::string(70'000, 'b'), "last"};
  for (const std::string& message : messages) {
    AppendFrame(message, bytes);
  }
  for (const size_t piece : {size_t{1}, size_t{3}, size_t{4096}, bytes.size()}) {
    FrameReader reader;
    std::vector<std::string> read;
    for (size_t start = 0; start < bytes.size(); start += piece) {
      reader.Append(absl::string_view(bytes).substr(start, piece));
      while (true) {
        const auto frame = reader.Next();
        ASSERT_TRUE(frame.ok());
        if (!frame->has_value()) {
          break;
        }
        read.push_back(**frame);
      }
    }
    EXPECT_EQ(read, messages) << "in pieces of " << piece;
  }
  FrameReader too_long;
  too_long.Append(absl::string_view("\x01\x00\x00\x0a", 4));
  EXPECT_EQ(too_long.Next().status().code(), absl::StatusCode::kDataLoss);
}

TEST(HelperProcessTest, ManyOutstandingRequestsGetTheirOwnAnswers) {
  const auto helper = MakeHelper();
  constexpr int kRequests = 300;
  std::vector<std::future<Response>> answers;
  for (int i = 0; i < kRequests; ++i) {
    answers.push_back(CallAsync(*helper, absl::StrCat(std::string(3000, 'x'), i)));
  }
  for (int i = 0; i < kRequests; ++i) {
    const Response response = answers[static_cast<size_t>(i)].get();
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->data().data_cache(), absl::StrCat(std::string(3000, 'x'), i));
  }
}

TEST(HelperProcessTest, ACrashIsTheFaultOfOneRequestOnly) {
  const auto helper = MakeHelper();
  const Response before = helper->CallAndWait(Request("first"), kLong);
  ASSERT_TRUE(before.ok()) << before.status();
  auto crash = CallAsync(*helper, "crash");
  auto innocent = CallAsync(*helper, "innocent");
  auto exit = CallAsync(*helper, "exit");
  auto garbage = CallAsync(*helper, "garbage");
  auto last = CallAsync(*helper, "last");

  const Response crashed = crash.get();
  EXPECT_EQ(crashed.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(crashed.status().message()), HasSubstr("signal 6"));
  const Response answered = innocent.get();
  ASSERT_TRUE(answered.ok()) << answered.status();
  EXPECT_NE(answered->data().train_examples(), before->data().train_examples())
      << "another process";
  const Response exited = exit.get();
  EXPECT_EQ(exited.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(exited.status().message()), HasSubstr("exit code 3"));
  EXPECT_EQ(garbage.get().status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(last.get().ok());
}

TEST(HelperProcessTest, AStuckHelperIsReplaced) {
  const auto helper = MakeHelper();
  auto stuck = CallAsync(*helper, "hang", absl::Milliseconds(200));
  auto behind = CallAsync(*helper, "behind");
  EXPECT_EQ(stuck.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  const Response response = behind.get();
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->data().data_cache(), "behind");
}

std::future<Response> CallInTurn(Helper& helper,
                                 const std::string& owner,
                                 const std::string& command) {
  auto promise = std::make_shared<std::promise<Response>>();
  helper.CallInTurn(owner, Request(command), kLong,
                    [promise](Response response) { promise->set_value(std::move(response)); });
  return promise->get_future();
}

// How many requests the process had answered with this one.
int Rank(std::future<Response>& answer) {
  const Response response = answer.get();
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? response->data().test_examples() : -1;
}

// The process of a helper, which stands still until it is to go on, so that requests wait for it.
class Stopped {
 public:
  explicit Stopped(Helper& helper) {
    const Response first = helper.CallAndWait(Request("first"), kLong);
    EXPECT_TRUE(first.ok()) << first.status();
    if (first.ok()) {
      pid_ = first->data().train_examples();
      EXPECT_EQ(kill(pid_, SIGSTOP), 0);
    }
  }
  void GoOn() const { EXPECT_TRUE(pid_ > 0 && kill(pid_, SIGCONT) == 0); }

 private:
  pid_t pid_ = 0;
};

TEST(HelperProcessTest, StartsGoFirstAndOwnersTakeTurns) {
  const auto helper = MakeHelper();
  Stopped process(*helper);
  auto blocked = CallAsync(*helper, "blocked");
  auto ann1 = CallInTurn(*helper, "ann", "a1");
  auto ann2 = CallInTurn(*helper, "ann", "a2");
  auto ann3 = CallInTurn(*helper, "ann", "a3");
  auto bob1 = CallInTurn(*helper, "bob", "b1");
  auto bob2 = CallInTurn(*helper, "bob", "b2");
  auto start = CallAsync(*helper, "start");
  process.GoOn();
  const int before = Rank(blocked);
  EXPECT_EQ(Rank(start), before + 1);
  EXPECT_EQ(Rank(ann1), before + 2);
  EXPECT_EQ(Rank(bob1), before + 3);
  EXPECT_EQ(Rank(ann2), before + 4);
  EXPECT_EQ(Rank(bob2), before + 5);
  EXPECT_EQ(Rank(ann3), before + 6);
}

TEST(HelperProcessTest, AnOwnerHasSoManyWaitingAndEqualOnesShareAnAnswer) {
  const auto helper = MakeHelper();
  Stopped process(*helper);
  auto blocked = CallAsync(*helper, "blocked");
  std::vector<std::future<Response>> waiting;
  for (int i = 0; i < Helper::kMaxWaitingPerOwner; ++i) {
    waiting.push_back(CallInTurn(*helper, "ann", absl::StrCat("a", i)));
  }
  auto again = CallInTurn(*helper, "ann", "a3");
  auto too_many = CallInTurn(*helper, "ann", "another");
  auto other = CallInTurn(*helper, "bob", "another");
  EXPECT_EQ(too_many.get().status().code(), absl::StatusCode::kResourceExhausted);
  process.GoOn();
  const int before = Rank(blocked);
  EXPECT_EQ(Rank(again), Rank(waiting[3]));
  EXPECT_EQ(Rank(other), before + 2);
  EXPECT_EQ(Rank(waiting[7]), before + 9);
}

// Two data sets that hang cost those behind them time, but not their answer.
TEST(HelperProcessTest, ATimeoutMayCountFromTheSending) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(200);
  const auto helper = MakeHelper(/*timeout_from_sending=*/true);
  const absl::Duration begin = common::Clock::Real().Monotonic();
  auto stuck = CallAsync(*helper, "hang", kTimeout);
  auto stuck_too = CallAsync(*helper, "hang", kTimeout);
  auto behind = CallAsync(*helper, "behind");
  EXPECT_EQ(stuck.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(stuck_too.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(common::Clock::Real().Monotonic() - begin, 2 * kTimeout)
      << "the time of the second one begins with the end of the first one's";
  const Response response = behind.get();
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->data().data_cache(), "behind");
}

TEST(HelperProcessTest, WhoGivesUpBeforeItsTurnCostsTheHelperNothing) {
  const auto helper = MakeHelper();
  Stopped process(*helper);
  auto blocked = CallAsync(*helper, "blocked");
  auto impatient = CallAsync(*helper, "impatient", absl::Milliseconds(50));
  EXPECT_EQ(impatient.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(blocked.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
      << "the other is still waiting";
  process.GoOn();
  const int before = Rank(blocked);
  auto last = CallAsync(*helper, "last");
  EXPECT_EQ(Rank(last), before + 1) << "nothing was served between them";
}

TEST(HelperProcessTest, LargeRequestsAndAnswersPass) {
  const auto helper = MakeHelper();
  const std::string large(size_t{70} << 20, 'x');
  const Response response = helper->CallAndWait(Request(large), kLong);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->data().data_cache().size(), large.size());
  const Response too_large = helper->CallAndWait(Request(std::string(kMaxFrameBytes, 'x')), kLong);
  EXPECT_EQ(too_large.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(helper->CallAndWait(Request("next"), kLong).ok());
}

TEST(HelperProcessTest, AHelperThatWasKilledIsReplacedWhenNextNeeded) {
  const auto helper = MakeHelper();
  const Response first = helper->CallAndWait(Request("first"), kLong);
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(kill(first->data().train_examples(), SIGKILL), 0);
  const Response second = helper->CallAndWait(Request("second"), kLong);
  // The kill may be noticed only with this request in flight, which then looks guilty.
  if (!second.ok()) {
    EXPECT_EQ(second.status().code(), absl::StatusCode::kInternal);
  }
  const Response third = helper->CallAndWait(Request("third"), kLong);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_NE(third->data().train_examples(), first->data().train_examples());
}

TEST(HelperProcessTest, ShutdownAnswersEverybody) {
  auto helper = MakeHelper();
  auto stuck = CallAsync(*helper, "hang");
  auto behind = CallAsync(*helper, "behind");
  helper.reset();
  EXPECT_EQ(stuck.get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(behind.get().status().code(), absl::StatusCode::kUnavailable);
}

TEST(HelperProcessTest, AProgramThatCannotRunIsReported) {
  HelperProcessOptions options;
  options.worker_binary = "/no/such/helper";
  EXPECT_EQ(NewHelperProcess(options).status().code(), absl::StatusCode::kFailedPrecondition);
  // Runs, but is no helper.
  options.worker_binary = "/bin/false";
  const auto helper = NewHelperProcess(options);
  ASSERT_TRUE(helper.ok());
  const Response response = (*helper)->CallAndWait(Request("x"), kLong);
  EXPECT_EQ(response.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(response.status().message()), HasSubstr("exit code 1"));
}

}  // namespace
}  // namespace normlab::server
