// A disk that does not take what a run writes: it costs no training.
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/train/trainer.h"
#include "engine/train/trainer_test_support.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kRun[] = "steps: 12 checkpoint { every_steps: 3 } ";
// A retry is due at once by the real clock; none that is expected to come waits for long.
constexpr absl::Duration kSoon = absl::Milliseconds(1);
// Only a bug waits so long.
constexpr absl::Duration kFar = absl::Minutes(5);

// Does something with every log line, on the thread of the run: so a test mends the disk just when the
// run has found it broken.
class MendingSink : public RecordingSink {
 public:
  void OnLog(v1::LogLine::Severity severity, absl::string_view text) override {
    RecordingSink::OnLog(severity, text);
    warnings_ += severity == v1::LogLine::WARNING ? 1 : 0;
    if (on_log_) {
      on_log_(text);
    }
  }
  void OnStep(const StepRecord& record) override {
    RecordingSink::OnStep(record);
    if (on_step_) {
      on_step_(record.step);
    }
  }

  std::function<void(absl::string_view)> on_log_;
  std::function<void(int64_t)> on_step_;
  int warnings_ = 0;
};

class TrainerDiskTest : public TrainerTest {
 protected:
  // Nothing can be made below a file, whoever tries it.
  static void Break(const std::string& folder) {
    fs::rename(folder, folder + ".away");
    std::ofstream(folder) << "in the way";
  }
  static void Mend(const std::string& folder) {
    fs::remove(folder);
    fs::rename(folder + ".away", folder);
  }
  std::unique_ptr<Trainer> Plan(const TrainerOptions& options) {
    auto trainer = Trainer::Plan(Spec(std::string(kBatchNormMlp) + kRun), *data_, options);
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    return *std::move(trainer);
  }
  static std::vector<int64_t> StepsOf(const std::vector<CheckpointRecord>& checkpoints) {
    std::vector<int64_t> steps;
    for (const CheckpointRecord& checkpoint : checkpoints) {
      steps.push_back(checkpoint.step);
    }
    return steps;
  }
};

TEST_F(TrainerDiskTest, ACheckpointThatCannotBeWrittenIsTriedAgainWhileTheTrainingGoesOn) {
  RecordingSink undisturbed;
  const v1::Outcome expected = TrainerTest::Run(std::string(kBatchNormMlp) + kRun, undisturbed);
  common::FakeClock clock;
  const std::string attempt = NewAttempt();
  MendingSink sink;
  sink.clock_ = &clock;
  sink.step_takes_ = absl::Seconds(1);
  // Broken from before the checkpoint of step 3 until after step 7, and retried every four steps.
  sink.on_step_ = [&attempt](int64_t step) {
    if (step == 1) {
      Break(attempt);
    }
    if (step == 7) {
      Mend(attempt);
    }
  };
  auto trainer =
      Plan({.attempt_folder = attempt, .clock = &clock, .write_retry = absl::Seconds(4)});
  const v1::Outcome outcome = trainer->Run(sink, {});
  EXPECT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.failure().message();
  EXPECT_EQ(outcome.result().weights_sha256(), expected.result().weights_sha256());
  EXPECT_EQ(sink.MetricBits(), undisturbed.MetricBits());
  // At 3 and 7 in vain, at 11 it works; 6 and 9 were not tried in between.
  EXPECT_THAT(StepsOf(sink.checkpoints_), ElementsAre(11));
  EXPECT_EQ(sink.warnings_, 1) << "one line for all that fail in a row";
  EXPECT_THAT(sink.logs_, Contains(HasSubstr("the checkpoint at step 3 could not be written")));
  EXPECT_THAT(sink.logs_, Contains(HasSubstr("can be written again: step 11")));
}

TEST_F(TrainerDiskTest, FinalWeightsWaitForTheDisk) {
  const std::string attempt = NewAttempt();
  MendingSink sink;
  sink.on_step_ = [&attempt](int64_t step) {
    if (step == 11) {
      Break(attempt);
    }
  };
  sink.on_log_ = [&attempt](absl::string_view text) {
    if (absl::StrContains(text, "the final weights could not be written")) {
      Mend(attempt);
    }
  };
  auto trainer = Plan({.attempt_folder = attempt, .write_retry = kSoon, .write_patience = kFar});
  const v1::Outcome outcome = trainer->Run(sink, {});
  EXPECT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.failure().message();
  EXPECT_TRUE(fs::exists(attempt + "/final/model.safetensors"));
  EXPECT_GT(outcome.files_size(), 0);
  EXPECT_EQ(sink.warnings_, 1);
}

TEST_F(TrainerDiskTest, FinalWeightsThatNeverCanBeWrittenAreTheMachinesFault) {
  MendingSink sink;
  auto trainer =
      Plan({.attempt_folder = "/proc/none", .write_retry = kSoon, .write_patience = kSoon});
  const v1::Outcome outcome = trainer->Run(sink, {});
  EXPECT_EQ(outcome.state(), v1::Job::FAILED);
  EXPECT_EQ(outcome.failure().reason(), v1::FailureReason::NODE_FAILED)
      << "this costs the job no retry";
  EXPECT_THAT(outcome.failure().message(), HasSubstr("/proc/none"));
  EXPECT_TRUE(sink.checkpoints_.empty());
}

TEST_F(TrainerDiskTest, ARunThatWaitsForTheDiskAtItsEndCanBeCancelled) {
  MendingSink sink;
  sink.on_log_ = [&sink](absl::string_view text) {
    if (absl::StrContains(text, "the final weights could not be written")) {
      sink.stop_.request_stop();
    }
  };
  auto trainer =
      Plan({.attempt_folder = "/proc/none", .write_retry = kFar, .write_patience = kFar});
  EXPECT_EQ(trainer->Run(sink, sink.stop_.get_token()).state(), v1::Job::CANCELLED);
}

TEST_F(TrainerDiskTest, APauseWaitsForTheDisk) {
  const std::string attempt = NewAttempt();
  MendingSink sink;
  sink.stop_after_ = 4;
  sink.on_step_ = [&attempt](int64_t step) {
    if (step == 4) {
      Break(attempt);
    }
  };
  sink.on_log_ = [&attempt](absl::string_view text) {
    if (absl::StrContains(text, "the checkpoint at step 5 could not be written")) {
      Mend(attempt);
    }
  };
  auto trainer = Plan({.attempt_folder = attempt, .write_retry = kSoon, .write_patience = kFar});
  EXPECT_EQ(trainer->Run(sink, sink.stop_.get_token(), sink.stop_.get_token()).state(),
            v1::Job::PAUSED);
  EXPECT_THAT(StepsOf(sink.checkpoints_), ElementsAre(3, 5));
}

TEST_F(TrainerDiskTest, APauseWithoutItsCheckpointSaysWhatIsLost) {
  const std::string attempt = NewAttempt();
  MendingSink sink;
  sink.stop_after_ = 4;
  sink.on_step_ = [&attempt](int64_t step) {
    if (step == 4) {
      Break(attempt);
    }
  };
  auto trainer =
      Plan({.attempt_folder = attempt, .write_retry = kFar, .write_patience = kFar, .give_up = [] {
              return true;
            }});
  EXPECT_EQ(trainer->Run(sink, sink.stop_.get_token(), sink.stop_.get_token()).state(),
            v1::Job::PAUSED);
  EXPECT_THAT(StepsOf(sink.checkpoints_), ElementsAre(3));
  EXPECT_THAT(sink.logs_, Contains(HasSubstr("the steps after step 3 are to be trained again")));
  EXPECT_THAT(sink.logs_, Not(Contains(HasSubstr("in the end"))));
}

}  // namespace
}  // namespace normlab::engine
