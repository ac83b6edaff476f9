// Data parallel training with ranks that are threads: the same numbers as one rank with the whole batch, where the
// mathematics says so, and every rank the same as the others always.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/dnnl/runtime.h"
#include "engine/parallel/testing.h"
#include "engine/spec/ranks.h"
#include "engine/train/trainer_test_support.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Loss of a step of the same state; sums of up to 2,000 terms in another order.
constexpr double kLossTolerance = 1e-5;
// Gradients of a tensor, relative to its largest.
constexpr double kGradientTolerance = 1e-4;

class HookedSink : public RecordingSink {
 public:
  void OnStep(const StepRecord& record) override {
    RecordingSink::OnStep(record);
    if (hook) {
      hook(record.step);
    }
  }
  std::function<void(int64_t)> hook;
};

struct RankRun {
  HookedSink sink;
  std::stop_source checkpoint;
  Trainer* trainer = nullptr;  // while it runs
  absl::Status planned;
  v1::Outcome outcome;
  std::vector<float> parameters, gradients, state;
  std::vector<ParameterSpec> tensors;  // where they lie in parameters and gradients
};

using Runs = std::vector<std::unique_ptr<RankRun>>;

std::vector<float> Copy(const Arena& arena) {
  const auto span = const_cast<Arena&>(arena).span();
  return {span.begin(), span.end()};
}

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  double difference = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest == 0 ? difference : difference / largest;
}

// Each tensor against the same one, so that none hides behind a larger one's.
void ExpectGradientsNear(const RankRun& a, const RankRun& b, double tolerance) {
  ASSERT_FALSE(b.tensors.empty());
  for (const ParameterSpec& tensor : b.tensors) {
    const auto part = [&](const std::vector<float>& all) {
      const auto first = all.begin() + tensor.offset;
      return std::vector<float>(first, first + tensor.count);
    };
    EXPECT_LT(RelativeDifference(part(a.gradients), part(b.gradients)), tolerance) << tensor.name;
  }
}

class TrainerParallelTest : public TrainerTest {
 protected:
  static std::string OnRanks(const std::string& text, int ranks, int group) {
    return absl::StrCat(text, " data_parallel { ranks: ", ranks, " statistics_group: ", group,
                        " } ");
  }

  static void RunOne(Communicator* communicator,
                     const std::string& text,
                     const std::string& attempt,
                     const std::string& resume,
                     RankRun& run) {
    auto trainer = Trainer::Plan(
        Spec(text), *data_,
        {.attempt_folder = attempt, .resume_folder = resume, .communicator = communicator});
    run.planned = trainer.status();
    if (!trainer.ok()) {
      return;
    }
    run.trainer = trainer->get();
    run.outcome = (*trainer)->Run(run.sink, run.sink.stop_.get_token(), run.checkpoint.get_token());
    run.parameters = Copy((*trainer)->model().parameters);
    run.gradients = Copy((*trainer)->model().gradients);
    run.state = Copy((*trainer)->model().state);
    run.tensors = (*trainer)->graph().parameters();
  }

  // As many ranks as the text says. Model and outcome of all ranks must be the same.
  static Runs RunAll(const std::string& text,
                     const std::string& attempt = NewAttempt(),
                     const std::string& resume = "",
                     const std::function<void(Runs&)>& prepare = {}) {
    const int ranks = RanksOf(Spec(text));
    Runs runs;
    for (int rank = 0; rank < ranks; ++rank) {
      runs.push_back(std::make_unique<RankRun>());
    }
    if (prepare) {
      prepare(runs);
    }
    if (ranks == 1) {
      RunOne(nullptr, text, attempt, resume, *runs[0]);
      return runs;
    }
    testing::RunRanks(ranks, [&](Communicator& communicator) {
      RunOne(&communicator, text, attempt, resume, *runs[static_cast<size_t>(communicator.rank())]);
    });
    for (const auto& run : runs) {
      EXPECT_EQ(run->planned, runs[0]->planned);
      EXPECT_EQ(run->outcome.state(), runs[0]->outcome.state());
      EXPECT_EQ(run->outcome.result().weights_sha256(), runs[0]->outcome.result().weights_sha256());
      EXPECT_EQ(run->sink.MetricBits(), runs[0]->sink.MetricBits());
    }
    return runs;
  }

  static void ExpectSeriesNear(const RecordingSink& a,
                               const RecordingSink& b,
                               const std::string& series,
                               double tolerance) {
    ASSERT_TRUE(a.metrics_.contains(series) && b.metrics_.contains(series)) << series;
    const auto& points = b.metrics_.at(series);
    ASSERT_EQ(a.metrics_.at(series).size(), points.size());
    for (const auto& [step, value] : a.metrics_.at(series)) {
      EXPECT_NEAR(value, points.at(step), tolerance) << series << " at step " << step;
    }
  }
};

// An incomplete last batch of 11: shares of 4, 4, 3 and of 3, 3, 3, 2.
constexpr char kSgdMlp[] =
    "model { mlp { hidden: [33, 17] } } batch_size: 40 data { last_batch: KEEP } "
    "optimizer { sgd { learning_rate: 0.1 } } steps: 50 evaluation { every_steps: 20 } ";
constexpr char kCnn[] =
    "model { cnn { blocks { channels: 5 stride: 2 pooling { kind: AVERAGE } } blocks { channels: "
    "7 stride: 2 } } } batch_size: 29 data { last_batch: KEEP } seed: 3 "
    "optimizer { sgd { learning_rate: 0.05 momentum: 0.9 } } evaluation { every_steps: 12 } ";

TEST_F(TrainerParallelTest, FiftyStepsOfTheMlpAreThoseOfOneRank) {
  for (const char* normalization : {"batch {}", "layer {}", "none {}", "mean_only_batch {}"}) {
    const std::string spec = absl::StrCat(kSgdMlp, "normalization { ", normalization, " } ");
    const Runs one = RunAll(spec);
    ASSERT_EQ(one[0]->outcome.state(), v1::Job::SUCCEEDED);
    for (const int ranks : {2, 3, 4}) {
      SCOPED_TRACE(absl::StrCat(normalization, " on ", ranks));
      const Runs many = RunAll(OnRanks(spec, ranks, ranks));
      ASSERT_EQ(many[0]->outcome.state(), v1::Job::SUCCEEDED) << many[0]->planned;
      ExpectSeriesNear(many[0]->sink, one[0]->sink, "train/loss", kLossTolerance);
      ExpectSeriesNear(many[0]->sink, one[0]->sink, "train/accuracy", 1e-12);
      ExpectSeriesNear(many[0]->sink, one[0]->sink, "test/loss", kLossTolerance);
      ExpectSeriesNear(many[0]->sink, one[0]->sink, "test/accuracy", 1e-12);
      EXPECT_LT(RelativeDifference(many[0]->parameters, one[0]->parameters), kLossTolerance);
      EXPECT_LT(RelativeDifference(many[0]->state, one[0]->state), kLossTolerance);
      EXPECT_EQ(many[0]->sink.examples_, one[0]->sink.examples_);
    }
  }
}

// From the same checkpoint, one step on one rank and on several; the checkpoints are of a run on two.
TEST_F(TrainerParallelTest, OneStepAgreesAtTenPointsOfARun) {
  for (const char* normalization : {"batch {}", "group { groups: 1 }"}) {
    const std::string spec = absl::StrCat(kCnn, "steps: 45 checkpoint { every_steps: 4 } ",
                                          "normalization { ", normalization, " } ");
    Runs writer = RunAll(OnRanks(spec, 2, 2), NewAttempt(), "", [](Runs& runs) {
      runs[0]->sink.commits_ = false;  // all checkpoints are kept
    });
    ASSERT_EQ(writer[0]->outcome.state(), v1::Job::SUCCEEDED);
    ASSERT_GE(writer[0]->sink.checkpoints_.size(), 10U);
    EXPECT_TRUE(writer[1]->sink.checkpoints_.empty());
    for (size_t point = 0; point < 10; ++point) {
      const CheckpointRecord& from = writer[0]->sink.checkpoints_[point];
      const auto one_step = [&](const std::string& text) {
        return RunAll(text, NewAttempt(), from.folder,
                      [&](Runs& runs) { runs[0]->sink.stop_after_ = from.step; });
      };
      const Runs one = one_step(spec);
      for (const int ranks : {2, 3, 4}) {
        SCOPED_TRACE(absl::StrCat(normalization, " step ", from.step, " on ", ranks));
        const Runs many = one_step(OnRanks(spec, ranks, ranks));
        ASSERT_EQ(many[0]->outcome.state(), v1::Job::CANCELLED) << many[0]->planned;
        ASSERT_THAT(many[0]->sink.Steps("train/loss"), ElementsAre(from.step));
        ExpectSeriesNear(many[0]->sink, one[0]->sink, "train/loss", kLossTolerance);
        ExpectGradientsNear(*many[0], *one[0], kGradientTolerance);
        EXPECT_LT(RelativeDifference(many[0]->state, one[0]->state), kLossTolerance);
      }
    }
  }
}

// Roundings to 8 bits fall otherwise where sums differ in their last digit, each time by 2^-9 of an activation. One step of
// the same weights differs by about ten of them, averaged over a batch; training multiplies what it begins with.
TEST_F(TrainerParallelTest, Bf16RunsStayCloseToThoseOfOneRank) {
  constexpr double kFirstLoss = 1e-3;  // 4e-4 was seen
  constexpr double kLoss = 2e-2;       // 5e-3 was seen
  if (!HasBf16Kernels()) {
    GTEST_SKIP() << "no bf16 kernels here";
  }
  for (const char* net : {kSgdMlp, kCnn}) {
    const std::string spec = absl::StrCat(net, net == kCnn ? "steps: 33 " : "",
                                          "normalization { batch {} } precision: BF16 ");
    SCOPED_TRACE(spec);
    const Runs one = RunAll(spec);
    const Runs two = RunAll(OnRanks(spec, 2, 2));
    ASSERT_EQ(one[0]->outcome.state(), v1::Job::SUCCEEDED) << one[0]->planned;
    ASSERT_EQ(two[0]->outcome.state(), v1::Job::SUCCEEDED) << two[0]->planned;
    const auto& losses = one[0]->sink.metrics_.at("train/loss");
    const auto& of_two = two[0]->sink.metrics_.at("train/loss");
    ASSERT_EQ(of_two.size(), losses.size());
    double first = 0, largest = 0;
    for (const auto& [step, loss] : losses) {
      const double difference = std::abs(of_two.at(step) - loss);
      first = step == losses.begin()->first ? difference : first;
      largest = std::max(largest, difference);
    }
    EXPECT_LT(first, kFirstLoss);
    EXPECT_LT(largest, kLoss);
  }
}

// Statistics of each rank's share are those of ghost batches of that size; running statistics follow the mean over the
// ranks as over ghosts. In groups of two ranks, ghosts are twice as large.
TEST_F(TrainerParallelTest, LocalStatisticsAreThoseOfGhostBatches) {
  const std::string spec =
      "model { cnn { blocks { channels: 5 stride: 2 } blocks { channels: 7 stride: 2 } } } "
      "batch_size: 40 seed: 5 optimizer { sgd { learning_rate: 0.05 } } steps: 20 "
      "evaluation { every_steps: 5 reestimate_batches: 6 } ";
  for (const auto& [ranks, group, ghost] : {std::tuple{2, 1, 20}, {4, 1, 10}, {4, 2, 20}}) {
    SCOPED_TRACE(absl::StrCat(ranks, " ranks in groups of ", group));
    const Runs ghosts =
        RunAll(absl::StrCat(spec, "normalization { ghost_batch { ghost_size: ", ghost, " } } "));
    const Runs many = RunAll(OnRanks(spec + "normalization { batch {} } ", ranks, group));
    ASSERT_EQ(ghosts[0]->outcome.state(), v1::Job::SUCCEEDED) << ghosts[0]->planned;
    ASSERT_EQ(many[0]->outcome.state(), v1::Job::SUCCEEDED) << many[0]->planned;
    for (const char* series : {"train/loss", "test/loss", "test/loss_reestimated"}) {
      ExpectSeriesNear(many[0]->sink, ghosts[0]->sink, series, kLossTolerance);
    }
    EXPECT_LT(RelativeDifference(many[0]->parameters, ghosts[0]->parameters), kLossTolerance);
    EXPECT_LT(RelativeDifference(many[0]->state, ghosts[0]->state), kLossTolerance);
    // And not those of the whole batch.
    const Runs whole = RunAll(spec + "normalization { batch {} } ");
    EXPECT_GT(RelativeDifference(many[0]->parameters, whole[0]->parameters), 1e-3);
  }
}

TEST_F(TrainerParallelTest, ARepeatedRunGivesTheSameBits) {
  const std::string spec =
      OnRanks(absl::StrCat(kCnn,
                           "epochs: 2 normalization { batch {} } data { augmentation { flip: true "
                           "pad_and_crop: 2 } } evaluation { reestimate_batches: 4 } "),
              3, 1);
  const Runs first = RunAll(spec);
  ASSERT_EQ(first[0]->outcome.state(), v1::Job::SUCCEEDED) << first[0]->planned;
  const Runs second = RunAll(spec);
  EXPECT_EQ(first[0]->parameters, second[0]->parameters);
  EXPECT_EQ(first[0]->sink.MetricBits(), second[0]->sink.MetricBits());
}

TEST_F(TrainerParallelTest, AResumedRunIsTheUninterruptedOneBitForBit) {
  for (const int group : {1, 3}) {
    const std::string spec =
        OnRanks(absl::StrCat(kCnn, "epochs: 2 normalization { batch {} } "), 3, group);
    const Runs whole = RunAll(spec);
    const std::string attempt = NewAttempt();
    const Runs begun = RunAll(spec, attempt, "", [](Runs& runs) {
      runs[0]->sink.stop_after_ = 12;
      runs[0]->checkpoint.request_stop();
    });
    ASSERT_EQ(begun[0]->outcome.state(), v1::Job::PAUSED);
    ASSERT_EQ(begun[0]->sink.checkpoints_.size(), 1U);
    const Runs resumed = RunAll(spec, NewAttempt(), begun[0]->sink.checkpoints_[0].folder);
    ASSERT_EQ(resumed[0]->outcome.state(), v1::Job::SUCCEEDED) << resumed[0]->planned;
    EXPECT_EQ(resumed[0]->parameters, whole[0]->parameters);
    EXPECT_EQ(resumed[0]->sink.MetricBits(13), whole[0]->sink.MetricBits(13));
  }
}

TEST_F(TrainerParallelTest, ARunGoesOnWithOtherRanksWhereThatIsTheSameRun) {
  struct {
    const char* normalization;
    int group_of_2, group_of_3;
    bool allowed;
  } const kCases[] = {
      {"batch {}", 2, 3, true}, {"layer {}", 1, 1, true}, {"batch {}", 1, 1, false}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(absl::StrCat(c.normalization, " in groups of ", c.group_of_2));
    const std::string spec = absl::StrCat(kSgdMlp, "normalization { ", c.normalization, " } ");
    const Runs begun = RunAll(OnRanks(spec, 2, c.group_of_2), NewAttempt(), "", [](Runs& runs) {
      runs[0]->sink.stop_after_ = 24;
      runs[0]->checkpoint.request_stop();
    });
    ASSERT_EQ(begun[0]->sink.checkpoints_.size(), 1U);
    const Runs resumed =
        RunAll(OnRanks(spec, 3, c.group_of_3), NewAttempt(), begun[0]->sink.checkpoints_[0].folder);
    if (!c.allowed) {
      EXPECT_THAT(std::string(resumed[0]->planned.message()),
                  HasSubstr("only statistics_group = ranks goes on with other ranks"));
      continue;
    }
    ASSERT_EQ(resumed[0]->outcome.state(), v1::Job::SUCCEEDED) << resumed[0]->planned;
    const Runs whole = RunAll(spec);  // on one rank, without interruption
    EXPECT_LT(RelativeDifference(resumed[0]->parameters, whole[0]->parameters), kLossTolerance);
    EXPECT_NEAR(resumed[0]->sink.metrics_["test/loss"][50],
                whole[0]->sink.metrics_["test/loss"][50], kLossTolerance);
  }
}

TEST_F(TrainerParallelTest, RanksThatDifferFailTheRun) {
  const std::string spec = OnRanks(
      absl::StrCat(kSgdMlp, "normalization { batch {} } checkpoint { every_steps: 10 } "), 3, 3);
  const int ranks = 3;
  Runs runs;
  for (int rank = 0; rank < ranks; ++rank) {
    runs.push_back(std::make_unique<RankRun>());
  }
  // A bit of one weight of rank 1 turns after step 13.
  runs[1]->sink.hook = [&run = *runs[1]](int64_t step) {
    if (step == 13) {
      float* weight = const_cast<ModelState&>(run.trainer->model()).parameters.data() + 5;
      *weight = std::nextafter(*weight, 10.0F);
    }
  };
  const std::string attempt = NewAttempt();
  testing::RunRanks(ranks, [&](Communicator& communicator) {
    RunOne(&communicator, spec, attempt, "", *runs[static_cast<size_t>(communicator.rank())]);
  });
  for (const auto& run : runs) {
    EXPECT_EQ(run->outcome.state(), v1::Job::FAILED);
    EXPECT_EQ(run->outcome.failure().reason(), v1::FailureReason::INTERNAL);
    EXPECT_THAT(run->outcome.failure().message(),
                HasSubstr("the weights of rank 1 are not those of rank 0 before step 20"));
  }
  ASSERT_EQ(runs[0]->sink.checkpoints_.size(), 1U);
  EXPECT_EQ(runs[0]->sink.checkpoints_[0].step, 10);
}

TEST_F(TrainerParallelTest, EveryRankEndsADivergedOrCancelledRunAtTheSameStep) {
  const Runs diverged =
      RunAll(OnRanks("model { mlp { hidden: [33, 17] } } batch_size: 30 steps: 40 "
                     "optimizer { sgd { learning_rate: 1e18 } }",
                     3, 1));
  for (const auto& run : diverged) {
    EXPECT_EQ(run->outcome.state(), v1::Job::DIVERGED);
    EXPECT_EQ(run->outcome.result().steps(), diverged[0]->outcome.result().steps());
  }
  const Runs cancelled = RunAll(OnRanks(kSgdMlp, 3, 1), NewAttempt(), "",
                                [](Runs& runs) { runs[0]->sink.stop_after_ = 17; });
  for (const auto& run : cancelled) {
    EXPECT_EQ(run->outcome.state(), v1::Job::CANCELLED);
    EXPECT_EQ(run->outcome.result().steps(), 18);
  }
  // Only rank 0 is asked.
  const Runs deaf = RunAll(OnRanks(kSgdMlp, 3, 1), NewAttempt(), "",
                           [](Runs& runs) { runs[2]->sink.stop_after_ = 17; });
  EXPECT_EQ(deaf[0]->outcome.state(), v1::Job::SUCCEEDED);
}

TEST_F(TrainerParallelTest, AnErrorOfPlanningIsEverybodys) {
  const Runs runs = RunAll(OnRanks(kSgdMlp, 2, 1), NewAttempt(), "/no/such/checkpoint");
  for (const auto& run : runs) {
    EXPECT_THAT(std::string(run->planned.message()), HasSubstr("rank 0: "));
  }
  RankRun alone;
  RunOne(nullptr, OnRanks(kSgdMlp, 2, 1), NewAttempt(), "", alone);
  EXPECT_THAT(std::string(alone.planned.message()), HasSubstr("started as 1 process"));
}

TEST_F(TrainerParallelTest, ProbesOfTheWeightsAreThoseOfOneRank) {
  const std::string spec =
      absl::StrCat(kSgdMlp,
                   "normalization { batch {} } probes { every: 10 scale_invariance {} } "
                   "probes { every: 10 normalizer_parameters {} } ");
  const Runs one = RunAll(spec);
  const Runs many = RunAll(OnRanks(spec, 3, 3));
  ASSERT_EQ(many[0]->outcome.state(), v1::Job::SUCCEEDED) << many[0]->planned;
  size_t compared = 0;
  for (const auto& [series, points] : one[0]->sink.metrics_) {
    if (series.starts_with("layers/")) {
      for (const auto& [step, value] : points) {
        EXPECT_NEAR(many[0]->sink.metrics_[series][step], value,
                    kGradientTolerance * std::max(1.0, std::abs(value)))
            << series << " at " << step;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 20U);
}

}  // namespace
}  // namespace normlab::engine
