#include "server/api/testing/api_test.h"

#include <stdlib.h>

#include <filesystem>
#include <future>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>

#include "server/domain/names.h"
#include "server/domain/transitions.h"

namespace normlab::server {

ApiTest::ApiTest() {
  std::string pattern = absl::StrCat(::testing::TempDir(), "/api.XXXXXX");
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  folder_ = pattern;
  options_.version = "1.2.3";
  options_.cores = 3;
  options_.memory_bytes = int64_t{8} << 30;
  options_.data_roots = {"/data"};
  options_.cache_folder = "/cache";
  // The helper's answer: Fashion-MNIST as it is.
  helper_.SetHandler([](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.set_id(request.id());
    if (request.has_engine_info()) {
      response.mutable_engine_info()->set_isa("AVX512_CORE");
      response.mutable_engine_info()->set_onednn_version("2.6.3");
      return response;
    }
    v1::DataReport& data = *response.mutable_data();
    data.set_data_cache("/cache/fashion");
    data.set_train_examples(60000);
    data.set_test_examples(10000);
    data.set_channels(1);
    data.set_height(28);
    data.set_width(28);
    data.set_classes(10);
    return response;
  });
}

ApiTest::~ApiTest() {
  StopServing();
  std::filesystem::remove_all(folder_);
}

void ApiTest::Serve() {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open({.data_dir = folder_});
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = wrap_store_ ? wrap_store_(*std::move(store)) : *std::move(store);
  store_->SetCommitListener([this](const std::string& job, int64_t sequence, bool terminal) {
    hub_.Published(job, sequence, terminal);
  });
  pool_ = std::make_unique<WorkPool>(4, 64);
  stream_pool_ = std::make_unique<WorkPool>(2, 64);
  streams_ = std::make_unique<StreamRegistry>(stream_options_);
  backend_.reset(new Backend{.options = options_,
                             .store = *store_,
                             .hub = hub_,
                             .controller = controller_,
                             .helper = helper_,
                             .normalizer = normalizer_,
                             .observer = Observer::None(),
                             .pool = *pool_,
                             .stream_pool = *stream_pool_,
                             .streams = *streams_});
  jobs_service_ = std::make_unique<JobsService>(*backend_);
  experiments_service_ = std::make_unique<ExperimentsService>(*backend_);
  normalization_service_ = std::make_unique<NormalizationService>(*backend_);
  server_service_ = std::make_unique<ServerService>(*backend_);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(jobs_service_.get());
  builder.RegisterService(experiments_service_.get());
  builder.RegisterService(normalization_service_.get());
  builder.RegisterService(server_service_.get());
  builder.SetMaxReceiveMessageSize(-1);
  server_ = builder.BuildAndStart();
  ASSERT_NE(server_, nullptr);
  channel_ =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  jobs_ = v1::Jobs::NewStub(channel_);
  experiments_ = v1::Experiments::NewStub(channel_);
  normalization_ = v1::Normalization::NewStub(channel_);
  info_ = v1::Server::NewStub(channel_);
}

void ApiTest::StopServing() {
  jobs_.reset();
  experiments_.reset();
  normalization_.reset();
  info_.reset();
  channel_.reset();
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now());
  }
  server_.reset();
  streams_.reset();
  stream_pool_.reset();
  pool_.reset();
  if (store_ != nullptr) {
    store_->Close();
  }
  backend_.reset();
  store_.reset();
}

v1::JobSpec ApiTest::ValidSpec() {
  v1::JobSpec spec;
  spec.set_display_name("a job");
  spec.mutable_model()->mutable_mlp()->add_hidden(7);
  spec.mutable_data()->mutable_fashion_mnist();
  spec.set_steps(100);
  return spec;
}

v1::CreateJobRequest ApiTest::CreateRequest(const v1::JobSpec& spec,
                                            const std::string& request_id) {
  v1::CreateJobRequest request;
  *request.mutable_job()->mutable_spec() = spec;
  request.set_request_id(request_id);
  return request;
}

v1::Job ApiTest::MustCreate(const v1::JobSpec& spec, const std::string& request_id) {
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = jobs_->CreateJob(&context, CreateRequest(spec, request_id), &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job;
}

void ApiTest::StartAttempt(const std::string& name) {
  const std::string id = *ParseJobName(name);
  AttemptSecrets secrets;
  secrets.secret_sha256 = std::string(32, 's');
  const auto started = store_->UpdateJobAndWait(
      id,
      [](v1::Job& job, std::vector<v1::Segment>& records) {
        return BeginAttempt(job, {0}, 1000, 0, absl::Now(), records);
      },
      secrets);
  ASSERT_TRUE(started.ok()) << started.status();
  const auto running =
      store_->UpdateJobAndWait(id, [](v1::Job& job, std::vector<v1::Segment>& records) {
        return MarkRunning(job, 1, absl::Now(), records);
      });
  ASSERT_TRUE(running.ok()) << running.status();
}

void ApiTest::Append(const std::string& name, v1::WorkerReport report) {
  std::promise<absl::Status> stored;
  store_->AppendReport(
      {.job_id = *ParseJobName(name), .number = 1}, std::move(report),
      [&](absl::StatusOr<Store::AppendResult> result) { stored.set_value(result.status()); });
  const absl::Status status = stored.get_future().get();
  ASSERT_TRUE(status.ok()) << status;
}

void ApiTest::Report(const std::string& name, int64_t number, int64_t first_step, int steps) {
  v1::WorkerReport report;
  report.set_number(number);
  if (number == 1) {
    v1::Series& series = *report.add_new_series();
    series.set_id(1);
    series.set_name("train/loss");
  }
  v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
  block.add_series(1);
  for (int64_t step = first_step; step < first_step + steps; ++step) {
    block.add_steps(step);
    block.add_values(static_cast<double>(step) + 0.25);
    block.add_elapsed_us(step * 100);
  }
  report.mutable_progress()->set_step(first_step + steps);
  report.mutable_progress()->set_total_steps(100);
  Append(name, std::move(report));
}

void ApiTest::ReportLog(const std::string& name, int64_t number, const std::string& text) {
  v1::WorkerReport report;
  report.set_number(number);
  v1::LogLine& line = *report.add_segments()->mutable_log();
  line.set_severity(v1::LogLine::INFO);
  line.set_text(text);
  line.set_attempt(1);
  Append(name, std::move(report));
}

void ApiTest::ReportSuccess(const std::string& name, int64_t number) {
  v1::WorkerReport report;
  report.set_number(number);
  report.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
  report.mutable_outcome()->mutable_result()->set_steps(100);
  Append(name, std::move(report));
}

std::string ApiTest::FinishedJob(int reports, int steps_per_report) {
  const std::string name = MustCreate().name();
  StartAttempt(name);
  for (int i = 0; i < reports; ++i) {
    Report(name, i + 1, int64_t{i} * steps_per_report, steps_per_report);
  }
  ReportSuccess(name, reports + 1);
  return name;
}

bool ApiTest::FindDetail(const grpc::Status& status,
                         const std::string& type,
                         google::protobuf::Message& detail) {
  google::rpc::Status proto;
  if (!proto.ParseFromString(status.error_details())) {
    return false;
  }
  EXPECT_EQ(proto.message(), status.error_message());
  EXPECT_EQ(proto.code(), static_cast<int>(status.error_code()));
  for (const auto& any : proto.details()) {
    if (absl::EndsWith(any.type_url(), "/" + type)) {
      return detail.ParseFromString(any.value());
    }
  }
  return false;
}

std::vector<std::string> ApiTest::ViolatedFields(const grpc::Status& status) {
  std::vector<std::string> fields;
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  for (const auto& violation : detail.field_violations()) {
    fields.push_back(violation.field());
    EXPECT_FALSE(violation.description().empty()) << violation.field();
  }
  return fields;
}

}  // namespace normlab::server
