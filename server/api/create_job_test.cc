#include "server/api/create_job.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/create_job_test_support.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

TEST_F(CreateJobTest, StoresACompleteJobAndTellsTheController) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  (*spec.mutable_labels())["study"] = "x";
  spec.set_priority(-3);
  spec.set_threads(2);
  v1::CreateJobRequest request = CreateRequest(spec);
  // What a caller must not be able to set.
  request.mutable_job()->set_name("jobs/mine");
  request.mutable_job()->set_state(v1::Job::SUCCEEDED);
  request.mutable_job()->set_owner("somebody");
  request.mutable_job()->mutable_result()->set_steps(5);
  v1::Job job;
  const grpc::Status status = Create(request, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();

  EXPECT_THAT(job.name(), StartsWith("jobs/"));
  EXPECT_NE(job.name(), "jobs/mine");
  EXPECT_EQ(job.state(), v1::Job::QUEUED);
  EXPECT_EQ(job.owner(), "local");
  EXPECT_EQ(job.display_name(), "a job");
  EXPECT_EQ(job.labels().at("study"), "x");
  EXPECT_EQ(job.priority(), -3);
  EXPECT_FALSE(job.has_result());
  EXPECT_EQ(job.spec().SerializeAsString().size(), spec.SerializeAsString().size());
  EXPECT_TRUE(job.resolved_spec().has_optimizer());
  EXPECT_EQ(job.progress().total_steps(), 100);
  EXPECT_EQ(job.estimate().cores(), 2);
  EXPECT_GT(job.estimate().memory_bytes(), 0);
  // 784 x 7 + 7 and 7 x 10 + 10.
  EXPECT_EQ(job.estimate().parameters(), 784 * 7 + 7 + 7 * 10 + 10);
  EXPECT_GT(job.estimate().multiply_adds(), 0);
  EXPECT_TRUE(job.has_create_time());

  const std::vector<v1::Job> told = controller_.changed();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].name(), job.name());

  grpc::ClientContext context;
  v1::GetJobRequest get;
  get.set_name(job.name());
  v1::Job stored;
  ASSERT_TRUE(jobs_->GetJob(&context, get, &stored).ok());
  EXPECT_EQ(stored.estimate().parameters(), job.estimate().parameters());
  // The helper was asked with the resolved data section and the server's own folders.
  const auto asked = helper_.requests();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].inspect_data().data().fashion_mnist().path(), "fashion-mnist");
  EXPECT_THAT(asked[0].inspect_data().data_roots(), ElementsAre("/data"));
  EXPECT_EQ(asked[0].inspect_data().cache_folder(), "/cache");
}

TEST_F(CreateJobTest, ListsViolationsOfSpecDataAndNetworkAtOnce) {
  Serve();
  LoseData();
  v1::JobSpec spec = ValidSpec();
  // 29x29 kernel without padding does not fit into a 28x28 image.
  auto* block = spec.mutable_model()->mutable_cnn()->add_blocks();
  block->set_channels(3);
  block->set_kernel(29);
  block->set_padding(0);
  spec.set_priority(1000);
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(std::nan(""));
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(status), "INVALID_SPEC");
  EXPECT_THAT(ViolatedFields(status),
              IsSupersetOf({"priority", "optimizer.sgd.learning_rate", "data.fashion_mnist.path",
                            "model.cnn.blocks[0].kernel"}));
  EXPECT_EQ(StoredJobs(), 0);
  EXPECT_TRUE(controller_.changed().empty());
}

TEST_F(CreateJobTest, RefusesWordsForSlurmWhereThereIsNone) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.mutable_slurm()->set_partition("work");
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("slurm"));
}

TEST_F(CreateJobTest, ChecksTheNetworkWhileTheDataIsMissing) {
  Serve();
  LoseData();
  v1::JobSpec spec = ValidSpec();
  auto* block = spec.mutable_model()->mutable_cnn()->add_blocks();
  block->set_channels(3);
  block->set_kernel(29);
  block->set_padding(0);
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_THAT(ViolatedFields(status),
              ElementsAre("data.fashion_mnist.path", "model.cnn.blocks[0].kernel"));
}

// What a user's own arrays are, nobody knows before the helper has looked.
TEST_F(CreateJobTest, TakesTheShapeOfOwnArraysFromTheHelper) {
  Serve();
  helper_.SetHandler([](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.set_id(request.id());
    v1::DataReport& data = *response.mutable_data();
    data.set_data_cache("/cache/arrays");
    data.set_train_examples(300);
    data.set_test_examples(20);
    data.set_channels(13);
    data.set_height(1);
    data.set_width(1);
    data.set_classes(4);
    data.set_dense(true);
    data.set_floats(true);
    return response;
  });
  v1::JobSpec spec = ValidSpec();
  spec.mutable_data()->mutable_arrays()->set_path("mine.npz");
  v1::Job job;
  const grpc::Status status = Create(CreateRequest(spec), &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.estimate().parameters(), 13 * 7 + 7 + 7 * 4 + 4);

  spec.mutable_data()->set_scaling(v1::Scaling::UNIT);
  spec.mutable_data()->set_train_limit(301);
  spec.mutable_data()->mutable_augmentation()->set_flip(true);
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))),
              ElementsAre("data.train_limit", "data.scaling", "data.augmentation.flip"));
  // Without the helper's word nothing is said about the network.
  LoseData();
  spec = ValidSpec();
  spec.mutable_data()->mutable_arrays()->set_path("mine.npz");
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))), ElementsAre("data.fashion_mnist.path"));
  spec.mutable_data()->mutable_arrays()->set_x_train("x.npy");
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))), ElementsAre("data.arrays.path"));
}

TEST_F(CreateJobTest, DoesNotAskTheHelperAboutABrokenDataSection) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.mutable_data()->set_train_limit(-1);
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_THAT(ViolatedFields(status), ElementsAre("data.train_limit"));
  EXPECT_TRUE(helper_.requests().empty());
}

TEST_F(CreateJobTest, KnowsSyntheticSetsWithoutTheHelper) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  v1::GaussianClasses& set = *spec.mutable_data()->mutable_gaussian_classes();
  set.set_classes(4);
  set.add_dims(13);
  set.set_train_examples(300);
  set.set_test_examples(20);
  v1::Job job;
  ASSERT_TRUE(Create(CreateRequest(spec), &job).ok());
  EXPECT_EQ(job.data().channels(), 13);
  EXPECT_EQ(job.data().train_examples(), 300);
  EXPECT_EQ(job.data().test_examples(), 20);
  EXPECT_TRUE(helper_.requests().empty());
  spec.set_batch_size(301);
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))), ElementsAre("batch_size"));
  EXPECT_TRUE(helper_.requests().empty());
  // What only the helper can tell.
  spec.set_batch_size(30);
  spec.set_precision(v1::Precision::BF16);
  Create(CreateRequest(spec));
  EXPECT_EQ(helper_.requests().size(), 1U);
  spec.clear_precision();
  spec.mutable_initial_weights()->set_path("a.safetensors");
  Create(CreateRequest(spec));
  EXPECT_EQ(helper_.requests().size(), 2U);
}

// Which files a path leads to now only the helper finds out: no verdict of the server's own may be older.
TEST_F(CreateJobTest, AsksAboutFilesEveryTime) {
  Serve();
  std::atomic<int> asked = 0;
  helper_.SetHandler(
      [&asked](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
        v1::HelperResponse response;
        response.set_id(request.id());
        v1::DataReport& report = *response.mutable_data();
        report.set_data_cache("/cache/data");
        report.set_lasting(true);
        report.set_train_examples(1000 + ++asked);
        report.set_test_examples(20);
        report.set_channels(1);
        report.set_height(28);
        report.set_width(28);
        report.set_classes(10);
        return response;
      });
  for (int i = 1; i <= 3; ++i) {
    v1::Job job;
    ASSERT_TRUE(Create(CreateRequest(ValidSpec()), &job).ok());
    EXPECT_EQ(job.data().train_examples(), 1000 + i);
  }
}

TEST_F(CreateJobTest, HasInitialWeightsLookedAtWhenTheyAreNamedAndInOrder) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  ASSERT_TRUE(Create(CreateRequest(spec)).ok());
  spec.mutable_initial_weights()->set_path("nets/a.safetensors");
  spec.mutable_initial_weights()->add_ignore("head.*");
  ASSERT_TRUE(Create(CreateRequest(spec)).ok());
  spec.mutable_initial_weights()->clear_path();
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))), ElementsAre("initial_weights.path"));
  const auto asked = helper_.requests();
  ASSERT_EQ(asked.size(), 3u);
  EXPECT_FALSE(asked[0].inspect_data().has_initial_weights());
  EXPECT_EQ(asked[1].inspect_data().initial_weights().path(), "nets/a.safetensors");
  EXPECT_FALSE(asked[2].inspect_data().has_initial_weights());
}

TEST_F(CreateJobTest, RefusesInitialWeightsThatTheHelperDoesNotFind) {
  Serve();
  helper_.SetHandler([](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.set_id(request.id());
    v1::DataReport& report = *response.mutable_data();
    report.set_data_cache("/cache/data");
    report.set_train_examples(200);
    report.set_test_examples(20);
    report.set_channels(1);
    report.set_height(28);
    report.set_width(28);
    report.set_classes(10);
    v1::SpecViolation& violation = *report.add_violations();
    violation.set_field("initial_weights.path");
    violation.set_description("is \"x\", where no weights were found; name a safetensors file");
    return response;
  });
  v1::JobSpec spec = ValidSpec();
  spec.mutable_initial_weights()->set_path("x");
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_EQ(Reason(status), "INVALID_SPEC");
  EXPECT_THAT(ViolatedFields(status), ElementsAre("initial_weights.path"));
  EXPECT_EQ(StoredJobs(), 0);
}

TEST_F(CreateJobTest, AsksAboutTheWholeJobAndPassesOnWhatTheHelperSays) {
  helper_.SetHandler([](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.set_id(request.id());
    v1::DataReport& report = *response.mutable_data();
    report.set_data_cache("/cache/data");
    report.set_train_examples(200);
    report.set_test_examples(20);
    report.set_channels(3);
    report.set_height(7);
    report.set_width(5);
    report.set_classes(4);
    report.set_floats(true);
    report.add_warnings("a pattern has no effect");
    return response;
  });
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.set_precision(v1::Precision::BF16);
  spec.mutable_initial_weights()->set_path("a.safetensors");
  v1::Job job;
  ASSERT_TRUE(Create(CreateRequest(spec), &job).ok());
  EXPECT_THAT(job.warnings(), Contains("a pattern has no effect"));
  EXPECT_EQ(job.data().channels(), 3);
  EXPECT_EQ(job.data().height(), 7);
  EXPECT_EQ(job.data().width(), 5);
  EXPECT_EQ(job.data().classes(), 4);
  EXPECT_EQ(job.data().train_examples(), 200);
  EXPECT_EQ(job.data().test_examples(), 20);
  EXPECT_TRUE(job.data().floats());
  const auto asked = helper_.requests();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].inspect_data().precision(), v1::Precision::BF16);
  EXPECT_EQ(asked[0].inspect_data().resolved_spec().batch_size(), job.resolved_spec().batch_size());
  // The network of a spec that is wrong by itself is not compared with anything.
  spec.set_priority(1000);
  EXPECT_FALSE(Create(CreateRequest(spec)).ok());
  EXPECT_FALSE(helper_.requests()[1].inspect_data().has_resolved_spec());
}

TEST_F(CreateJobTest, EmptyRequestNamesWhatIsMissing) {
  Serve();
  const grpc::Status status = Create(v1::CreateJobRequest());
  EXPECT_THAT(ViolatedFields(status), IsSupersetOf({"model", "data"}));
}

TEST_F(CreateJobTest, RefusesWhatCanNeverFitWithTheNumbers) {
  options_.memory_bytes = 64 << 20;
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.mutable_model()->mutable_mlp()->set_hidden(0, 20000);
  spec.mutable_model()->mutable_mlp()->add_hidden(20000);
  spec.set_threads(4);
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("threads", "model")) << status.error_message();
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  EXPECT_THAT(detail.field_violations(0).description(), HasSubstr("has 3"));
  EXPECT_THAT(detail.field_violations(1).description(), HasSubstr("64.0 MiB"));
  EXPECT_THAT(detail.field_violations(1).description(), HasSubstr("--memory"));
}

TEST_F(CreateJobTest, NamesTheBatchSizeThatWouldFit) {
  options_.memory_bytes = int64_t{1} << 30;
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.mutable_model()->mutable_mlp()->set_hidden(0, 5000);
  spec.set_batch_size(60000);
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_THAT(ViolatedFields(status), ElementsAre("batch_size")) << status.error_message();
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  const std::string text = detail.field_violations(0).description();
  const size_t at_most = text.find("at most ");
  ASSERT_NE(at_most, std::string::npos) << text;
  const int batch = std::stoi(text.substr(at_most + 8));
  // It is the largest: one more is refused.
  v1::CreateJobRequest request = CreateRequest(spec);
  request.set_validate_only(true);
  request.mutable_job()->mutable_spec()->set_batch_size(batch);
  EXPECT_TRUE(Create(request).ok());
  request.mutable_job()->mutable_spec()->set_batch_size(batch + 1);
  EXPECT_FALSE(Create(request).ok());
}

TEST_F(CreateJobTest, ValidateOnlyAnswersTheJobAndStoresNothing) {
  Serve();
  v1::CreateJobRequest request = CreateRequest(ValidSpec(), "again");
  request.set_validate_only(true);
  v1::Job job;
  ASSERT_TRUE(Create(request, &job).ok());
  EXPECT_TRUE(job.name().empty());
  EXPECT_EQ(job.progress().total_steps(), 100);
  EXPECT_GT(job.estimate().memory_bytes(), 0);
  EXPECT_EQ(StoredJobs(), 0);
  EXPECT_TRUE(controller_.changed().empty());
  // The request_id is not used up.
  request.set_validate_only(false);
  ASSERT_TRUE(Create(request, &job).ok());
  EXPECT_EQ(StoredJobs(), 1);
}

}  // namespace
}  // namespace normlab::server
