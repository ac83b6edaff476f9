// Probes in a real training run: what they measure against closed forms, and that they change nothing.
#include <unistd.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "engine/models/build_graph.h"
#include "engine/train/trainer_test_support.h"

#include <Eigen/Eigenvalues>

namespace normlab::engine {
namespace {

using Points = std::map<std::string, std::map<int64_t, double>>;

constexpr char kAllProbes[] =
    "probes { every: 3 activation_statistics {} } probes { every: 2 gradient_norms {} } "
    "probes { every: 4 covariate_shift {} } probes { every: 3 landscape { step_sizes: [0.01, 0.3] "
    "} } "
    "probes { every: 5 gradient_noise { batches: 3 } } probes { every: 4 sharpness { iterations: 3 "
    "} } "
    "probes { every: 1 scale_invariance {} } probes { every: 7 normalizer_parameters {} } "
    "probes { loss_surface { points: 3 examples: 60 } } ";

class ProbesTest : public TrainerTest {
 protected:
  static void ExpectEqualTraining(const std::string& spec) {
    RecordingSink plain;
    RecordingSink probed;
    const v1::Outcome without = Run(spec, plain);
    const v1::Outcome with = Run(spec + kAllProbes, probed);
    EXPECT_EQ(with.state(), v1::Job::SUCCEEDED) << with.ShortDebugString();
    EXPECT_EQ(with.result().weights_sha256(), without.result().weights_sha256()) << spec;
    const auto bits = probed.MetricBits();
    for (const auto& [series, points] : plain.MetricBits()) {
      EXPECT_EQ(bits.at(series), points) << series;
    }
    EXPECT_EQ(with.result().probe_costs_size(), 9);
    for (const v1::ProbeCost& cost : with.result().probe_costs()) {
      EXPECT_GT(cost.runs(), 0) << cost.probe();
      EXPECT_GT(cost.passes_per_run(), 0) << cost.probe();
    }
  }
};

TEST_F(ProbesTest, TrainingIsBitIdenticalWithAndWithoutThem) {
  ExpectEqualTraining(absl::StrCat(kBatchNormMlp, "epochs: 1 "));
  // Two sizes of batches, running statistics, pooling, several threads.
  ExpectEqualTraining(absl::StrCat(kBatchNormCnn, "epochs: 1 threads: 2 "));
  ExpectEqualTraining(
      "model { mlp { hidden: [12, 9] } } normalization { noisy_batch {} } batch_size: 30 epochs: 1 "
      "optimizer { adam { learning_rate: 0.01 } } ");
}

TEST_F(ProbesTest, AResumedRunRepeatsThem) {
  const std::string spec =
      absl::StrCat(kBatchNormMlp, "steps: 11 checkpoint { every_steps: 5 } ", kAllProbes);
  RecordingSink whole;
  const std::string attempt = NewAttempt();
  const v1::Outcome outcome = Run(spec, whole, attempt);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  RecordingSink resumed;
  const v1::Outcome again =
      Run(spec, resumed, NewAttempt(), absl::StrCat(attempt, "/checkpoints/step-000000005"));
  ASSERT_EQ(again.state(), v1::Job::SUCCEEDED) << again.ShortDebugString();
  EXPECT_EQ(resumed.MetricBits(), whole.MetricBits(5));
}

TEST_F(ProbesTest, LayersCanBeChosen) {
  RecordingSink sink;
  Run(absl::StrCat(kBatchNormMlp,
                   "steps: 2 probes { every: 1 layers: \"fc2\" covariate_shift {} } "),
      sink);
  EXPECT_EQ(sink.Steps("layers/fc2/covariate_shift").size(), 2U);
  EXPECT_TRUE(sink.Steps("layers/fc1/covariate_shift").empty());
}

TEST_F(ProbesTest, TheFirstLayersInputNeverShifts) {
  RecordingSink sink;
  Run(absl::StrCat(kBatchNormMlp, "steps: 4 probes { every: 1 covariate_shift {} } "), sink);
  for (int64_t step = 0; step < 4; ++step) {
    EXPECT_EQ(sink.metrics_["layers/fc1/covariate_shift"][step], 0);
    EXPECT_EQ(sink.metrics_["layers/fc1/covariate_shift_cosine"][step], 1);
    EXPECT_GT(sink.metrics_["layers/fc2/covariate_shift"][step], 0);
    EXPECT_LT(sink.metrics_["layers/fc2/covariate_shift_cosine"][step], 1);
  }
}

TEST_F(ProbesTest, WithoutUpdatesNothingShifts) {
  // Batch renorm uses running statistics in training, which every step's own forward pass moves.
  for (const char* const normalization : {"batch", "batch_renorm", "noisy_batch"}) {
    RecordingSink sink;
    Run(absl::StrCat("model { mlp { hidden: [9, 8] } } normalization { ", normalization,
                     " {} } batch_size: 30 steps: 3 optimizer { sgd { learning_rate: 0 } } "
                     "probes { every: 1 covariate_shift {} } "
                     "probes { every: 1 activation_statistics {} } "
                     "probes { every: 1 gradient_norms {} } "),
        sink);
    for (const char* const layer : {"fc1", "fc2"}) {
      const std::string prefix = absl::StrCat("layers/", layer, "/");
      EXPECT_EQ(sink.metrics_[prefix + "covariate_shift"][2], 0) << layer << " " << normalization;
      EXPECT_NEAR(sink.metrics_[prefix + "covariate_shift_cosine"][2], 1, 1e-12)
          << layer << " " << normalization;
      EXPECT_EQ(sink.metrics_[prefix + "update_ratio"][2], 0) << layer << " " << normalization;
    }
    const double shift = sink.metrics_["layers/fc1/activation_shift"][2];
    if (std::string(normalization) == "noisy_batch") {
      // Only the noise moves, from step to step: each channel's mean by the difference of two draws of U(-1/2, 1/2), 1/3 on
      // average, and its deviation by that of two of U(1, 5/4).
      EXPECT_GT(shift, 0.2);
      EXPECT_LT(shift, 0.6);
    } else {
      EXPECT_EQ(shift, 0) << normalization;
    }
  }
}

TEST_F(ProbesTest, WeightsBeforeANormalizerAreOrthogonalToTheirGradient) {
  RecordingSink normalized;
  Run(absl::StrCat(kBatchNormMlp, "steps: 1 probes { every: 1 scale_invariance {} } "), normalized);
  // Of rounding, and of epsilon in the normalizer.
  EXPECT_NEAR(normalized.metrics_["layers/fc1/gradient_weight_cosine"][0], 0, 1e-3);
  EXPECT_NEAR(normalized.metrics_["layers/fc2/gradient_weight_cosine"][0], 0, 1e-3);
  RecordingSink plain;
  Run("model { mlp { hidden: [33, 17] } } batch_size: 30 steps: 1 "
      "probes { every: 1 scale_invariance {} } probes { every: 1 gradient_norms {} }",
      plain);
  EXPECT_GT(std::abs(plain.metrics_["layers/fc2/gradient_weight_cosine"][0]), 1e-3);
  EXPECT_NEAR(plain.metrics_["layers/fc2/effective_learning_rate"][0],
              0.1 / std::pow(plain.metrics_["layers/fc2/weight_norm"][0], 2), 1e-9);
}

TEST_F(ProbesTest, UpdateRatioIsRateTimesGradientOverWeights) {
  RecordingSink sink;
  Run("model { mlp { hidden: [20] } } batch_size: 30 steps: 2 optimizer { sgd { learning_rate: "
      "0.05 } } "
      "probes { every: 1 gradient_norms {} }",
      sink);
  for (const int64_t step : {0, 1}) {
    const auto at = [&sink, step](const char* quantity) {
      return sink.metrics_[absl::StrCat("layers/fc1/", quantity)][step];
    };
    EXPECT_NEAR(at("update_ratio"), 0.05 * at("gradient_norm") / at("weight_norm"), 1e-7);
    EXPECT_GT(at("output_gradient_norm"), 0);
  }
}

TEST_F(ProbesTest, NormalizedActivationsHaveMeanZeroAndVarianceOneAtTheStart) {
  RecordingSink sink;
  Run(absl::StrCat(kBatchNormMlp,
                   "steps: 2 probes { every: 1 activation_statistics {} } "
                   "probes { every: 1 normalizer_parameters {} } "),
      sink);
  EXPECT_NEAR(sink.metrics_["layers/fc1/post_mean"][0], 0, 1e-6);
  EXPECT_NEAR(sink.metrics_["layers/fc1/post_variance"][0], 1, 1e-2);
  EXPECT_GT(sink.metrics_["layers/fc1/activation_shift"][0], 0);
  EXPECT_GT(sink.metrics_["layers/fc1/pre_effective_rank"][0], 1);
  EXPECT_EQ(sink.metrics_["layers/bn1/gamma_mean"][0], 1);
  EXPECT_EQ(sink.metrics_["layers/bn1/beta_max"][0], 0);
  EXPECT_NE(sink.metrics_["layers/bn1/gamma_std"][1], 0);
}

TEST_F(ProbesTest, TheMiddleOfTheLossSurfaceIsTheFinalModel) {
  RecordingSink sink;
  // The whole test set is the job's: the surface is over training examples, so it is compared with a run whose batch is all
  // of them and whose rate is 0: the last training loss is the loss at the final weights.
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [9] } } normalization { layer {} } data { last_batch: KEEP } "
          "batch_size: 331 steps: 1 optimizer { sgd { learning_rate: 0 } } "
          "probes { loss_surface { points: 5 examples: 331 range: 0.5 } } ",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  EXPECT_NEAR(sink.metrics_["loss_surface/0,0"][1], sink.metrics_["train/loss"][0], 1e-6);
  EXPECT_NE(sink.metrics_["loss_surface/0.5,0"][1], sink.metrics_["loss_surface/0,0"][1]);
  int points = 0;
  for (const auto& [series, values] : sink.metrics_) {
    points += series.starts_with("loss_surface/") ? 1 : 0;
  }
  EXPECT_EQ(points, 25);
}

// A linear model with squared error is a quadratic whose Hessian is known.
class QuadraticTest : public ::testing::Test {
 protected:
  static constexpr int kExamples = 96;
  static constexpr int kInputs = 6;
  static constexpr int kOutputs = 4;

  void SetUp() override {
    base_ = std::filesystem::path(::testing::TempDir()) / absl::StrCat("quadratic_test.", getpid());
    std::filesystem::remove_all(base_);
    std::filesystem::create_directories(base_);
    v1::InspectDataRequest request;
    auto& regression = *request.mutable_data()->mutable_linear_regression();
    regression.set_inputs(kInputs);
    regression.set_outputs(kOutputs);
    regression.set_train_examples(kExamples);
    request.set_cache_folder((base_ / "cache").string());
    DataInspector inspector;
    const v1::DataReport report = inspector.Inspect(request);
    ASSERT_EQ(report.violations_size(), 0) << report.DebugString();
    auto mapped = MappedDataset::Open(report.data_cache());
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    data_.emplace(*std::move(mapped));
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  v1::Outcome Run(const std::string& text,
                  RecordingSink& sink,
                  const std::string& layers = "layers { linear { outputs: 4 } }") {
    v1::JobSpec spec;
    auto& regression = *spec.mutable_data()->mutable_linear_regression();
    regression.set_inputs(kInputs);
    regression.set_outputs(kOutputs);
    regression.set_train_examples(kExamples);
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(
        absl::StrCat("model { custom { ", layers, " } } loss: SUM_SQUARED_ERROR ",
                     "data { scaling: NONE } convolution_algorithm: DIRECT ", text),
        &spec));
    EXPECT_THAT(Validate(spec), ::testing::IsEmpty());
    const std::filesystem::path folder = base_ / ("attempt-" + std::to_string(++attempts_));
    std::filesystem::create_directories(folder);
    auto trainer = Trainer::Plan(Resolve(spec), *data_, {.attempt_folder = folder.string()});
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    if (!trainer.ok()) {
      return {};
    }
    return (*trainer)->Run(sink, sink.stop_.get_token());
  }

  // Examples with a 1 for the bias.
  Eigen::MatrixXd Inputs() const {
    Eigen::MatrixXd x(kExamples, kInputs + 1);
    for (int n = 0; n < kExamples; ++n) {
      for (int i = 0; i < kInputs; ++i) {
        x(n, i) = data_->train().floats[static_cast<size_t>(n * kInputs + i)];
      }
      x(n, kInputs) = 1;
    }
    return x;
  }

  Eigen::MatrixXd Targets() const {
    Eigen::MatrixXd t(kExamples, kOutputs);
    for (int n = 0; n < kExamples; ++n) {
      for (int o = 0; o < kOutputs; ++o) {
        t(n, o) = data_->train().targets[static_cast<size_t>(n * kOutputs + o)];
      }
    }
    return t;
  }

  std::filesystem::path base_;
  std::optional<MappedDataset> data_;
  int attempts_ = 0;
};

// sum (W x - t)^2 has, for every output, the Hessian 2 X^T X.
TEST_F(QuadraticTest, SharpnessIsTheTopEigenvalueAndTheThresholdTwoOverTheRate) {
  const Eigen::MatrixXd x = Inputs();
  const double top =
      2 *
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(x.transpose() * x).eigenvalues().maxCoeff();
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("batch_size: 96 steps: 3 optimizer { sgd { learning_rate: 1e-4 } } "
          "probes { every: 1 sharpness { iterations: 100 } }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  EXPECT_NEAR(sink.metrics_["sharpness/top_eigenvalue"][0], top, 2e-3 * top);
  // Warm: it starts from the vector it found before.
  EXPECT_NEAR(sink.metrics_["sharpness/top_eigenvalue"][2], top, 1e-3 * top);
  EXPECT_LT(sink.metrics_["sharpness/iterations"][2], sink.metrics_["sharpness/iterations"][0]);
  EXPECT_NEAR(sink.metrics_["sharpness/stability_threshold"][0], 2e4, 1e-6);
}

// Where all weights of two linear layers are 0 the Hessian of sum |W2 (W1 x + b1) + b2 - t|^2 is known: 2N for every b2, and
// +-2 s for every singular value s of sum t [x, 1]^T. Its top and its bottom are equally far from 0.
TEST_F(QuadraticTest, SharpnessOfASaddleIsItsTopEigenvalue) {
  const Eigen::MatrixXd x = Inputs();
  const double top = std::max(
      2.0 * kExamples,
      2 * Eigen::JacobiSVD<Eigen::MatrixXd>(Targets().transpose() * x).singularValues()(0));
  ASSERT_GT(top, 2.0 * kExamples);
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("batch_size: 96 steps: 1 initializer { normal { std: 3e-3 } } "
          "optimizer { sgd { learning_rate: 1e-9 } } "
          "probes { every: 1 sharpness { iterations: 100 } }",
          sink, "layers { linear { outputs: 3 } } layers { linear { outputs: 4 } }");
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  EXPECT_NEAR(sink.metrics_["sharpness/top_eigenvalue"][0], top, 2e-2 * top);
}

TEST_F(QuadraticTest, TheLandscapeOfAQuadraticIsThatOfItsHessian) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("batch_size: 96 steps: 2 optimizer { sgd { learning_rate: 1e-4 } } "
          "probes { every: 1 landscape { learning_rate_multiples: [0.5, 1, 4] } } "
          "probes { every: 1 gradient_norms {} }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  // At eta = the rate the landscape sees the next step's loss: L(w) - eta |d|^2 + eta^2 d^T H d / 2, from which d^T H d.
  const double loss = sink.metrics_["train/loss"][0];
  const double next = sink.metrics_["train/loss"][1];
  const double eta = 1e-4;
  const double norm = sink.metrics_["gradient_norm/all"][0];
  const double curvature = 2 * (next - loss + eta * norm * norm) / (eta * eta) / (norm * norm);
  const double smoothness = sink.metrics_["landscape/smoothness"][0];
  const double tolerance = 1e-2 * smoothness;  // `curvature` is a difference of rounded losses
  // |H d| / |d| is at least the Rayleigh quotient and at most the top eigenvalue, and the same for every eta.
  EXPECT_GE(smoothness, curvature - tolerance);
  const Eigen::MatrixXd x = Inputs();
  EXPECT_LE(smoothness, 2 * Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(x.transpose() * x)
                                    .eigenvalues()
                                    .maxCoeff() +
                            tolerance);
  EXPECT_NEAR(sink.metrics_["landscape/predictiveness_max"][0], 4 * eta * norm * smoothness,
              1e-3 * 4 * eta * norm * smoothness);
  EXPECT_NEAR(sink.metrics_["landscape/predictiveness_min"][0], 0.5 * eta * norm * smoothness,
              1e-2 * 0.5 * eta * norm * smoothness);
  const auto loss_at = [&](double multiple) {
    const double step = multiple * eta;
    return loss - step * norm * norm + step * step * curvature * norm * norm / 2;
  };
  EXPECT_NEAR(sink.metrics_["landscape/loss_max"][0],
              std::max({loss_at(0.5), loss_at(1), loss_at(4)}), 1e-3 * loss);
  EXPECT_NEAR(sink.metrics_["landscape/loss_min"][0],
              std::min({loss_at(0.5), loss_at(1), loss_at(4)}), 1e-3 * loss);
}

TEST_F(ProbesTest, WeightsHaveLessOfTheNormThanAllParameters) {
  RecordingSink sink;
  Run(absl::StrCat(kBatchNormMlp,
                   "steps: 3 probes { every: 1 landscape { step_sizes: [0.01, 0.3] } } "
                   "probes { every: 1 gradient_noise { batches: 3 } } "),
      sink);
  for (const char* const name : {"landscape/predictiveness_min", "landscape/predictiveness_max",
                                 "gradient_noise/second_moment", "gradient_noise/variance"}) {
    const double all = sink.metrics_[name][2];
    const double weights = sink.metrics_[absl::StrCat(name, "_weights")][2];
    EXPECT_GT(weights, 0) << name;
    EXPECT_LT(weights, all) << name;
  }
  EXPECT_GT(sink.metrics_["landscape/smoothness_weights"][2], 0);
}

TEST_F(QuadraticTest, OverflowAlongTheGradientIsInfiniteNotDropped) {
  RecordingSink sink;
  Run("batch_size: 96 steps: 1 initializer { normal { std: 1e6 } } "
      "optimizer { sgd { learning_rate: 1e-6 } } "
      "probes { every: 1 landscape { step_sizes: [1e-5, 1e30] } }",
      sink);
  EXPECT_TRUE(std::isfinite(sink.metrics_["landscape/loss_min"][0]));
  EXPECT_TRUE(std::isinf(sink.metrics_["landscape/loss_max"][0]));
  EXPECT_TRUE(std::isinf(sink.metrics_["landscape/smoothness"][0]));
}

// Batches drawn without repetition from N examples: the covariance of a batch's mean gradient is (N - B)/(N - 1) / B times
// that of one example's, which is computed here exactly.
TEST_F(QuadraticTest, GradientNoiseIsThatOfTheExamplesGradients) {
  constexpr int kBatch = 8;
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("loss: MEAN_SQUARED_ERROR batch_size: 8 steps: 1 initializer { normal { std: 1e-8 } } "
          "optimizer { sgd { learning_rate: 1e-3 } } "
          "probes { every: 1 gradient_noise { batches: 1000 } }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
  // At w = 0 the gradient of mean over outputs of (w x - t)^2 is -2/T t x^T.
  const Eigen::MatrixXd x = Inputs();
  const Eigen::MatrixXd t = Targets();
  const double factor = 2.0 / kOutputs;
  const double true_squared_norm = (factor / kExamples * t.transpose() * x).squaredNorm();
  double second_moment = 0;  // of one example's gradient
  for (int n = 0; n < kExamples; ++n) {
    second_moment += factor * factor * t.row(n).squaredNorm() * x.row(n).squaredNorm() / kExamples;
  }
  const double trace = second_moment - true_squared_norm;
  const double of_batch = trace / kBatch * (kExamples - kBatch) / (kExamples - 1.0);
  // 1,000 batches: a few percent.
  EXPECT_NEAR(sink.metrics_["gradient_noise/variance"][0], of_batch, 0.06 * of_batch);
  EXPECT_NEAR(sink.metrics_["gradient_noise/mean_squared_norm"][0], true_squared_norm,
              0.06 * true_squared_norm);
  EXPECT_NEAR(sink.metrics_["gradient_noise/second_moment"][0], of_batch + true_squared_norm,
              0.06 * (of_batch + true_squared_norm));
  EXPECT_NEAR(sink.metrics_["gradient_noise/noise_scale"][0], trace / true_squared_norm,
              0.1 * trace / true_squared_norm);
}

}  // namespace
}  // namespace normlab::engine
