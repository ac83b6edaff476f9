// Every method of every public service, called by everybody, compared with the table in
// docs/security.md.
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/generic/generic_stub.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "server/app/testing/server_test_fixture.h"
#include "server/auth/method_rules.h"

#include "normlab/v1/experiments.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::Message;
using google::protobuf::MethodDescriptor;
using ::testing::HasSubstr;

std::string ReasonOfCall(const grpc::Status& status) {
  google::rpc::Status proto;
  google::rpc::ErrorInfo info;
  if (proto.ParseFromString(status.error_details())) {
    for (const auto& detail : proto.details()) {
      if (detail.UnpackTo(&info)) {
        return info.reason();
      }
    }
  }
  return "";
}

std::vector<const MethodDescriptor*> PublicMethods() {
  std::vector<const MethodDescriptor*> methods;
  for (const FileDescriptor* file :
       {v1::CreateJobRequest::descriptor()->file(), v1::NormalizeRequest::descriptor()->file(),
        v1::CreateExperimentRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        methods.push_back(file->service(i)->method(j));
      }
    }
  }
  return methods;
}

// Sets `name`, `parent` or `job.name` to the job, whichever the request has.
bool NameJob(Message& request, const std::string& job) {
  for (const char* field_name : {"name", "parent"}) {
    if (const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName(field_name)) {
      request.GetReflection()->SetString(&request, field, job);
      return true;
    }
  }
  const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName("job");
  if (field == nullptr || request.GetDescriptor()->name() == "CreateJobRequest") {
    return false;
  }
  Message* inner = request.GetReflection()->MutableMessage(&request, field);
  inner->GetReflection()->SetString(inner, inner->GetDescriptor()->FindFieldByName("name"), job);
  return true;
}

// Table of docs/security.md: method -> cells after it, without backquotes.
std::map<std::string, std::vector<std::string>> DocumentedTable() {
  std::map<std::string, std::vector<std::string>> table;
  const auto text = common::ReadFile(NORMLAB_SECURITY_DOC);
  EXPECT_TRUE(text.ok()) << text.status();
  bool inside = false;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (absl::StartsWith(line, "| method |")) {
      inside = true;
      continue;
    }
    inside = inside && absl::StartsWith(line, "|");
    if (!inside || absl::StartsWith(line, "|---")) {
      continue;
    }
    std::vector<std::string> cells;
    for (absl::string_view cell : absl::StrSplit(line, '|')) {
      cell = absl::StripAsciiWhitespace(cell);
      while (absl::ConsumePrefix(&cell, "`") || absl::ConsumeSuffix(&cell, "`")) {
      }
      cells.emplace_back(cell);
    }
    EXPECT_EQ(cells.size(), 8u) << line;  // with the empty ones at both ends
    EXPECT_TRUE(table.emplace(cells[1], std::vector(cells.begin() + 2, cells.end() - 1)).second)
        << line;
  }
  return table;
}

class AccessTest : public ServerTest {
 protected:
  static constexpr char kWrongToken[] = "nlt_wrong";

  AccessTest() {
    options_.tokens_file = folder_ + "/tokens";
    options_.limits = {};
    std::string text;
    for (const auto& [name, role, owner] : {std::tuple{"vera", "viewer", "vision"},
                                            {"sam", "submitter", "vision"},
                                            {"lea", "submitter", "language"},
                                            {"ada", "admin", "ops"}}) {
      absl::StrAppend(&text, "{\"name\":\"", name, "\",\"role\":\"", role, "\",\"owner\":\"", owner,
                      "\",\"sha256\":\"", common::Sha256Hex(Token(name)), "\"}\n");
    }
    EXPECT_TRUE(common::WriteFileAtomically(options_.tokens_file, text, 0600).ok());
  }

  static std::string Token(const std::string& name) { return "nlt_" + name; }

  static std::unique_ptr<grpc::ClientContext> As(const std::string& who) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    if (who == "wrong token") {
      context->AddMetadata("authorization", absl::StrCat("Bearer ", kWrongToken));
    } else if (who != "nobody") {
      context->AddMetadata("authorization", absl::StrCat("Bearer ", Token(who)));
    }
    return context;
  }

  std::string CreateAs(const std::string& who) {
    v1::Job job;
    const grpc::Status status = jobs_->CreateJob(As(who).get(), CreateRequest(), &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.name();
  }

  std::string CreateExperimentAs(const std::string& who) {
    v1::CreateExperimentRequest request;
    *request.mutable_experiment()->mutable_base() = CreateRequest().job().spec();
    request.mutable_experiment()->mutable_design()->add_seeds(3);
    v1::Experiment experiment;
    const grpc::Status status =
        v1::Experiments::NewStub(channel_)->CreateExperiment(As(who).get(), request, &experiment);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return experiment.name();
  }

  // Calls any method with raw bytes. A stream is left after its first message, with OK.
  grpc::Status Call(const std::string& path, const std::string& who, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    const auto context = As(who);
    const auto next = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      queue.Next(&tag, &ok);
      return ok;
    };
    auto call = stub.PrepareCall(context.get(), path, &queue);
    call->StartCall(nullptr);
    next();
    const grpc::Slice slice(bytes);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    next();
    grpc::ByteBuffer response;
    call->Read(&response, nullptr);
    const bool answered = next();
    if (answered) {
      context->TryCancel();
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    next();
    queue.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue.Next(&tag, &ok)) {
    }
    return answered ? grpc::Status::OK : status;
  }

  // In the words of the table.
  static std::string Outcome(const grpc::Status& status) {
    const std::string reason = ReasonOfCall(status);
    if (reason == "TOKEN_MISSING" || reason == "TOKEN_UNKNOWN") {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
      return "UNAUTHENTICATED";
    }
    if (reason == "ROLE_TOO_LOW") {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
      return "PERMISSION_DENIED";
    }
    if (reason == "JOB_NOT_FOUND" || reason == "EXPERIMENT_NOT_FOUND") {
      return "NOT_FOUND";
    }
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
    // Whatever else a handler says, it was asked.
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << status.error_message();
    EXPECT_NE(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << status.error_message();
    EXPECT_TRUE(status.ok() || !reason.empty())
        << status.error_code() << " " << status.error_message() << " has no ErrorInfo";
    return "yes";
  }
};

TEST_F(AccessTest, EveryMethodAnswersEverybodyAsTheTableSays) {
  StartServer();
  auto table = DocumentedTable();
  for (const MethodDescriptor* method : PublicMethods()) {
    SCOPED_TRACE(method->full_name());
    const auto row = table.find(method->name());
    ASSERT_NE(row, table.end()) << "not in docs/security.md";
    // Columns: viewer, submitter, admin, another owner's job, in the audit log.
    const std::vector<std::string> cells = row->second;
    table.erase(row);
    ASSERT_NE(FindMethodRule(method->name()), nullptr);
    EXPECT_EQ(cells[4] == "yes", FindMethodRule(method->name())->changes);
    const std::string path = absl::StrCat("/", method->service()->full_name(), "/", method->name());
    const std::unique_ptr<Message> request(google::protobuf::MessageFactory::generated_factory()
                                               ->GetPrototype(method->input_type())
                                               ->New());
    const auto outcome = [&](const std::string& who) {
      const std::string resource =
          method->service()->name() == "Experiments"
              ? CreateExperimentAs("sam")
              : absl::StrCat(CreateAs("sam"),
                             method->name() == "ReadArtifact" ? "/artifacts/1" : "");
      const bool about_a_job = NameJob(*request, resource);
      EXPECT_EQ(cells[3] == "NOT_FOUND", about_a_job);
      return Outcome(Call(path, who, request->SerializeAsString()));
    };
    EXPECT_EQ(outcome("nobody"), "UNAUTHENTICATED");
    EXPECT_EQ(outcome("wrong token"), "UNAUTHENTICATED");
    EXPECT_EQ(outcome("vera"), cells[0]);
    EXPECT_EQ(outcome("sam"), cells[1]);
    EXPECT_EQ(outcome("ada"), cells[2]);
    EXPECT_EQ(outcome("lea"), cells[3] == "NOT_FOUND" ? "NOT_FOUND" : cells[1]);
  }
  for (const auto& [method, cells] : table) {
    ADD_FAILURE() << "docs/security.md has " << method << ", which no public service has";
  }
}

TEST_F(AccessTest, AListShowsTheCallersOwnersJobsOnly) {
  StartServer();
  const std::set<std::string> vision = {CreateAs("sam"), CreateAs("sam")};
  const std::set<std::string> language = {CreateAs("lea")};
  const auto listed = [this](const std::string& who, const std::string& filter = "") {
    v1::ListJobsRequest request;
    request.set_filter(filter);
    v1::ListJobsResponse response;
    const grpc::Status status = jobs_->ListJobs(As(who).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::set<std::string> names;
    for (const v1::Job& job : response.jobs()) {
      names.insert(job.name());
    }
    return names;
  };
  EXPECT_EQ(listed("vera"), vision);
  EXPECT_EQ(listed("lea"), language);
  EXPECT_EQ(listed("lea", "owner=vision"), std::set<std::string>());
  EXPECT_EQ(listed("ada").size(), 3u);
  EXPECT_EQ(listed("ada", "owner=vision"), vision);
}

TEST_F(AccessTest, AListOfExperimentsShowsTheCallersOwners) {
  StartServer();
  const std::string vision = CreateExperimentAs("sam");
  const std::string language = CreateExperimentAs("lea");
  const auto listed = [this](const std::string& who) {
    v1::ListExperimentsResponse response;
    const grpc::Status status =
        v1::Experiments::NewStub(channel_)->ListExperiments(As(who).get(), {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::set<std::string> names;
    for (const v1::Experiment& experiment : response.experiments()) {
      names.insert(experiment.name());
    }
    return names;
  };
  EXPECT_EQ(listed("vera"), std::set<std::string>({vision}));
  EXPECT_EQ(listed("lea"), std::set<std::string>({language}));
  EXPECT_EQ(listed("ada"), std::set<std::string>({vision, language}));
}

TEST_F(AccessTest, AnotherOwnersJobLooksLikeOneThatNeverWas) {
  StartServer();
  const std::string theirs = CreateAs("sam");
  std::string unused = theirs;
  unused.back() = unused.back() == 'a' ? 'b' : 'a';
  const auto answer = [this](const std::string& name, bool watch) {
    v1::GetJobRequest get;
    get.set_name(name);
    const grpc::Status status =
        Call(watch ? "/normlab.v1.Jobs/WatchJob" : "/normlab.v1.Jobs/GetJob", "lea",
             get.SerializeAsString());
    // But for the name itself.
    return absl::StrCat(status.error_code(), " ",
                        absl::StrJoin(absl::StrSplit(status.error_message(), name), "NAME"), " ",
                        ReasonOfCall(status));
  };
  for (const bool watch : {false, true}) {
    EXPECT_THAT(answer(theirs, watch), HasSubstr("JOB_NOT_FOUND"));
    EXPECT_EQ(answer(theirs, watch), answer(unused, watch));
  }
}

TEST_F(AccessTest, TheServerSaysForWhomItTakesOne) {
  StartServer();
  v1::ServerInfo info;
  const auto stub = v1::Server::NewStub(channel_);
  ASSERT_TRUE(stub->GetServerInfo(As("vera").get(), {}, &info).ok());
  EXPECT_EQ(info.caller().name(), "vera");
  EXPECT_EQ(info.caller().role(), v1::Caller::VIEWER);
  EXPECT_EQ(info.caller().owner(), "vision");
}

TEST_F(AccessTest, AWithdrawnTokenEndsItsOpenStreams) {
  options_.heartbeat_interval = absl::Milliseconds(20);
  StartServer();
  v1::WatchJobRequest request;
  request.set_name(CreateAs("sam"));
  const auto context = As("vera");
  const auto stream = jobs_->WatchJob(context.get(), request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(stream->Read(&response));
  // The file without its line; the stream's next heartbeat is the last.
  const auto text = common::ReadFile(options_.tokens_file);
  ASSERT_TRUE(text.ok());
  std::string without;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (!absl::StrContains(line, "vera")) {
      absl::StrAppend(&without, line, "\n");
    }
  }
  ASSERT_TRUE(common::WriteFileAtomically(options_.tokens_file, without, 0600).ok());
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << status.error_message();
  EXPECT_EQ(ReasonOfCall(status), "TOKEN_UNKNOWN");
}

TEST_F(AccessTest, ARotatedTokenEndsItsOpenStreamsOfEveryKind) {
  options_.heartbeat_interval = absl::Milliseconds(20);
  StartServer();
  const std::string job = CreateAs("sam");
  v1::WatchJobRequest watch_request;
  watch_request.set_name(job);
  const auto watch_context = As("vera");
  const auto watch = jobs_->WatchJob(watch_context.get(), watch_request);
  v1::WatchJobResponse record;
  ASSERT_TRUE(watch->Read(&record));
  v1::ReadLogsRequest logs_request;
  logs_request.set_name(job);
  logs_request.set_follow(true);
  const auto logs_context = As("vera");
  const auto logs = jobs_->ReadLogs(logs_context.get(), logs_request);
  v1::ReadLogsResponse line;
  ASSERT_TRUE(logs->Read(&line));  // a heartbeat, as there is no line
  // Of the same name, role and owner: only the token is another one.
  const auto text = common::ReadFile(options_.tokens_file);
  ASSERT_TRUE(text.ok());
  const std::string rotated = absl::StrReplaceAll(
      *text, {{common::Sha256Hex(Token("vera")), common::Sha256Hex("nlt_vera_the_second")}});
  ASSERT_NE(rotated, *text);
  ASSERT_TRUE(common::WriteFileAtomically(options_.tokens_file, rotated, 0600).ok());
  while (watch->Read(&record)) {
  }
  EXPECT_EQ(ReasonOfCall(watch->Finish()), "TOKEN_UNKNOWN");
  while (logs->Read(&line)) {
  }
  EXPECT_EQ(ReasonOfCall(logs->Finish()), "TOKEN_UNKNOWN");
}

TEST_F(AccessTest, EvenWhatNoHandlerSeesIsAnsweredWithAReason) {
  StartServer();
  const std::string create = "/normlab.v1.Jobs/CreateJob";
  // A field of length 5 with one byte.
  EXPECT_EQ(ReasonOfCall(Call(create, "sam", "\x0a\x05x")), "MALFORMED_REQUEST");
  // A name that is not UTF-8, to a unary call and to a stream.
  v1::GetJobRequest name;
  EXPECT_EQ(ReasonOfCall(Call("/normlab.v1.Jobs/GetJob", "sam", "\x0a\x02\xff\xfe")),
            "MALFORMED_REQUEST");
  const grpc::Status stream = Call("/normlab.v1.Jobs/WatchJob", "sam", "\x0a\x02\xff\xfe");
  EXPECT_EQ(ReasonOfCall(stream), "MALFORMED_REQUEST");
  EXPECT_EQ(stream.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  for (const char* path : {"/normlab.v1.Jobs/FormatDisk", "/some.other.Service/Method"}) {
    const grpc::Status status = Call(path, "nobody", "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << path;
    EXPECT_EQ(ReasonOfCall(status), "UNKNOWN_METHOD") << path;
  }
  // Workers' service is on another listener.
  EXPECT_EQ(ReasonOfCall(Call("/normlab.v1.Worker/Report", "ada", "")), "UNKNOWN_METHOD");
}

TEST_F(AccessTest, HealthAndReflectionAnswerEverybody) {
  StartServer();
  EXPECT_TRUE(Call("/grpc.health.v1.Health/Check", "nobody", "").ok());
  // ServerReflectionRequest{list_services: ""}
  EXPECT_TRUE(Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "nobody",
                   std::string("\x3a\x00", 2))
                  .ok());
}

TEST_F(AccessTest, TokensAreInNoLogAndNoMetric) {
  // The fixture logs to stderr; what matters is every place that outlives the call.
  StartServer();
  CreateAs("sam");
  EXPECT_EQ(Outcome(Call("/normlab.v1.Jobs/ListJobs", "wrong token", "")), "UNAUTHENTICATED");
  const std::string metrics = Http("/metrics");
  EXPECT_THAT(metrics, HasSubstr("normlab_calls_refused_total{code=\"UNAUTHENTICATED\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("normlab_tokens_file_healthy 1"));
  EXPECT_THAT(metrics, ::testing::Not(HasSubstr("nlt_")));
}

}  // namespace
}  // namespace normlab::server
