#include "client/lib/testing/fake_jobs_service.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

#include "client/lib/record_decoder.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

// INVALID_ARGUMENT as the real server answers it.
grpc::Status BadField(const std::string& field, const std::string& description) {
  google::rpc::BadRequest bad_request;
  google::rpc::BadRequest::FieldViolation& violation = *bad_request.add_field_violations();
  violation.set_field(field);
  violation.set_description(description);
  google::rpc::Status status;
  status.set_code(grpc::StatusCode::INVALID_ARGUMENT);
  status.set_message("the spec has 1 problem; correct it and submit it again");
  status.add_details()->PackFrom(bad_request);
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, status.message(),
                      status.SerializeAsString());
}

}  // namespace

class FakeServer::Info : public normlab::v1::Server::Service {
  grpc::Status GetServerInfo(grpc::ServerContext* /*context*/,
                             const normlab::v1::GetServerInfoRequest* /*request*/,
                             normlab::v1::ServerInfo* response) override {
    response->set_version("9.8.7");
    response->set_cores(2);
    return grpc::Status::OK;
  }
};

// Answers with twice the input; refuses a negative epsilon.
class FakeServer::Normalization : public normlab::v1::Normalization::Service {
 public:
  explicit Normalization(FakeServer& server) : server_(server) {}

 private:
  grpc::Status Normalize(grpc::ServerContext* /*context*/,
                         const normlab::v1::NormalizeRequest* request,
                         normlab::v1::NormalizeResponse* response) override {
    if (const grpc::Status fault = server_.EnterCall(); !fault.ok()) {
      return fault;
    }
    {
      const std::lock_guard<std::mutex> lock(server_.mu_);
      server_.normalize_requests_.push_back(*request);
    }
    if (request->normalizer().batch().epsilon() < 0) {
      return BadField("normalizer.batch.epsilon", "is negative; use at least 0");
    }
    *response->mutable_output() = request->input();
    for (float& value : *response->mutable_output()->mutable_values()) {
      value *= 2;
    }
    if (request->has_output_gradient()) {
      *response->mutable_input_gradient() = request->output_gradient();
      (*response->mutable_parameter_gradients())["weight"] = request->output_gradient();
    }
    (*response->mutable_statistics())["mean"].add_values(0.1F);
    response->set_implementation("doubling");
    return grpc::Status::OK;
  }

  FakeServer& server_;
};

bool FakeServer::StoredJob::IsOver() const {
  const auto* last =
      records.empty() ? nullptr : std::get_if<normlab::v1::StateChange>(&records.back());
  return last != nullptr && IsTerminal(last->state());
}

FakeServer::FakeServer(int port)
    : info_(std::make_unique<Info>()), normalization_(std::make_unique<Normalization>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(this);
  builder.RegisterService(&experiments_);
  builder.RegisterService(info_.get());
  builder.RegisterService(normalization_.get());
  server_ = builder.BuildAndStart();
}

FakeServer::~FakeServer() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

std::string FakeServer::address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

void FakeServer::AddJob(Job job, std::vector<FakeRecord> records) {
  const std::lock_guard<std::mutex> lock(mu_);
  job.set_last_sequence(static_cast<int64_t>(records.size()));
  const std::string name = job.name();
  jobs_[name] = StoredJob{.job = std::move(job), .records = std::move(records)};
}

void FakeServer::AppendRecord(const std::string& name, FakeRecord record) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    StoredJob& stored = jobs_.at(name);
    if (const auto* change = std::get_if<normlab::v1::StateChange>(&record)) {
      stored.job.set_state(change->state());
    }
    stored.records.push_back(std::move(record));
    stored.job.set_last_sequence(static_cast<int64_t>(stored.records.size()));
  }
  changed_.notify_all();
}

void FakeServer::FailCalls(int count, grpc::Status status) {
  const std::lock_guard<std::mutex> lock(mu_);
  failures_ = count;
  failure_ = std::move(status);
}

void FakeServer::DropStreams(std::vector<int64_t> after) {
  const std::lock_guard<std::mutex> lock(mu_);
  drops_ = std::move(after);
}

void FakeServer::BreakSequence(int64_t sequence, bool repeat) {
  const std::lock_guard<std::mutex> lock(mu_);
  broken_sequence_ = sequence;
  repeat_broken_ = repeat;
}

void FakeServer::FreezeNextStream() {
  const std::lock_guard<std::mutex> lock(mu_);
  freeze_ = true;
}

std::vector<normlab::v1::CreateJobRequest> FakeServer::create_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return create_requests_;
}

std::vector<normlab::v1::NormalizeRequest> FakeServer::normalize_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return normalize_requests_;
}

std::vector<int64_t> FakeServer::watch_positions() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return watch_positions_;
}

int FakeServer::calls() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return calls_;
}

grpc::Status FakeServer::EnterCall() {
  const std::lock_guard<std::mutex> lock(mu_);
  ++calls_;
  if (failures_ > 0) {
    --failures_;
    return failure_;
  }
  return grpc::Status::OK;
}

int64_t FakeServer::NextDrop() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (drops_.empty()) {
    return -1;
  }
  const int64_t drop = drops_.front();
  drops_.erase(drops_.begin());
  return drop;
}

grpc::Status FakeServer::Find(const std::string& name, StoredJob** job) {
  const auto found = jobs_.find(name);
  if (found == jobs_.end()) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND,
                        absl::StrCat("there is no ", name, "; see normlab list"));
  }
  *job = &found->second;
  return grpc::Status::OK;
}

grpc::Status FakeServer::CreateJob(grpc::ServerContext* /*context*/,
                                   const normlab::v1::CreateJobRequest* request,
                                   Job* response) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    create_requests_.push_back(*request);
  }
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  if (request->job().spec().batch_size() < 0) {
    return BadField("batch_size", "is negative; use 1 or more");
  }
  const std::lock_guard<std::mutex> lock(mu_);
  *response->mutable_spec() = request->job().spec();
  if (request->validate_only()) {
    response->mutable_estimate()->set_cores(1);
    response->mutable_estimate()->set_memory_bytes(1 << 20);
    return grpc::Status::OK;
  }
  const auto [known, is_new] =
      request_ids_.emplace(request->request_id(), absl::StrCat("jobs/new", jobs_.size() + 1));
  if (is_new) {
    response->set_name(known->second);
    response->set_state(Job::SUCCEEDED);
    response->set_display_name(request->job().spec().display_name());
    response->set_last_sequence(3);
    jobs_[known->second] = StoredJob{
        .job = *response,
        .records = {FakeState(Job::QUEUED), FakeState(Job::RUNNING), FakeState(Job::SUCCEEDED)}};
  } else {
    *response = jobs_.at(known->second).job;
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetJob(grpc::ServerContext* /*context*/,
                                const normlab::v1::GetJobRequest* request,
                                Job* response) {
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  const std::lock_guard<std::mutex> lock(mu_);
  StoredJob* stored = nullptr;
  grpc::Status status = Find(request->name(), &stored);
  if (status.ok()) {
    *response = stored->job;
  }
  return status;
}

grpc::Status FakeServer::ListJobs(grpc::ServerContext* /*context*/,
                                  const normlab::v1::ListJobsRequest* request,
                                  normlab::v1::ListJobsResponse* response) {
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  const std::lock_guard<std::mutex> lock(mu_);
  const int page_size = request->page_size() == 0 ? 50 : request->page_size();
  for (auto next = jobs_.upper_bound(request->page_token()); next != jobs_.end(); ++next) {
    const Job& job = next->second.job;
    bool matches = true;
    for (const absl::string_view term :
         absl::StrSplit(request->filter(), " AND ", absl::SkipEmpty())) {
      matches = matches && (term == absl::StrCat("state=", Job::State_Name(job.state())) ||
                            term == absl::StrCat("experiment=", job.experiment()));
    }
    if (!matches) {
      continue;
    }
    if (response->jobs_size() == page_size) {
      response->set_next_page_token(response->jobs(page_size - 1).name());
      break;
    }
    *response->add_jobs() = job;
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::CancelJob(grpc::ServerContext* /*context*/,
                                   const normlab::v1::CancelJobRequest* request,
                                   Job* response) {
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  {
    const std::lock_guard<std::mutex> lock(mu_);
    StoredJob* stored = nullptr;
    if (grpc::Status status = Find(request->name(), &stored); !status.ok()) {
      return status;
    }
    if (stored->IsOver()) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                          absl::StrCat(request->name(), " is over already"));
    }
  }
  AppendRecord(request->name(), FakeState(Job::CANCELLED));
  const std::lock_guard<std::mutex> lock(mu_);
  *response = jobs_.at(request->name()).job;
  return grpc::Status::OK;
}

grpc::Status FakeServer::Move(const std::string& name,
                              Job::State to,
                              bool allowed_when_paused,
                              Job* response) {
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  const std::lock_guard<std::mutex> lock(mu_);
  StoredJob* stored = nullptr;
  if (grpc::Status status = Find(name, &stored); !status.ok()) {
    return status;
  }
  const bool paused = stored->job.state() == Job::PAUSED;
  if (stored->IsOver() || paused != allowed_when_paused) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                        absl::StrCat(name, " is ", Job::State_Name(stored->job.state())));
  }
  stored->job.set_state(to);
  *response = stored->job;
  return grpc::Status::OK;
}

grpc::Status FakeServer::PauseJob(grpc::ServerContext* /*context*/,
                                  const normlab::v1::PauseJobRequest* request,
                                  Job* response) {
  return Move(request->name(), Job::PAUSED, /*allowed_when_paused=*/false, response);
}

grpc::Status FakeServer::ResumeJob(grpc::ServerContext* /*context*/,
                                   const normlab::v1::ResumeJobRequest* request,
                                   Job* response) {
  return Move(request->name(), Job::QUEUED, /*allowed_when_paused=*/true, response);
}

grpc::Status FakeServer::UpdateJob(grpc::ServerContext* /*context*/,
                                   const normlab::v1::UpdateJobRequest* request,
                                   Job* response) {
  if (grpc::Status fault = EnterCall(); !fault.ok()) {
    return fault;
  }
  const std::lock_guard<std::mutex> lock(mu_);
  StoredJob* stored = nullptr;
  if (grpc::Status status = Find(request->job().name(), &stored); !status.ok()) {
    return status;
  }
  update_requests_.push_back(*request);
  *response = stored->job;
  return grpc::Status::OK;
}

grpc::Status FakeServer::DeleteJob(grpc::ServerContext* /*context*/,
                                   const normlab::v1::DeleteJobRequest* request,
                                   google::protobuf::Empty* /*response*/) {
  {
    // Unlike the others it does its work before a fault: an answer that is lost.
    const std::lock_guard<std::mutex> lock(mu_);
    delete_requests_.push_back(*request);
    if (jobs_.erase(request->name()) == 0 && !request->allow_missing()) {
      return grpc::Status(grpc::StatusCode::NOT_FOUND,
                          absl::StrCat("there is no job ", request->name()));
    }
  }
  return EnterCall();
}

std::vector<normlab::v1::UpdateJobRequest> FakeServer::update_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return update_requests_;
}

std::vector<normlab::v1::DeleteJobRequest> FakeServer::delete_requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return delete_requests_;
}

}  // namespace normlab::client
