// A scan of hostile requests against the real server: each is refused with a reason, and neither
// the server's memory nor another client notices.
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/subprocess.h"
#include "tests/integration/bystander.h"
#include "tests/integration/spec_fields.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);
// What the server may have grown by at its worst, gRPC's buffers for the largest requests included:
// four of 64 MiB at once, read and parsed.
constexpr int64_t kMaxGrowthBytes = int64_t{600} << 20;
// Of another client's calls, on a machine that does other things too; or, where that is more, so many times what it takes
// when nobody is hostile.
constexpr absl::Duration kMaxMedianLatency = absl::Milliseconds(50);
constexpr absl::Duration kMaxLatency = absl::Seconds(3);
constexpr int kMaxSlowdown = 20;

class HostileTest : public ::testing::Test {
 protected:
  HostileTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/hostile.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    const std::string bin = getenv("NORMLAB_BIN") != nullptr ? getenv("NORMLAB_BIN") : "bin";
    auto process = common::Subprocess::Start(
        {.argv = {bin + "/normlabd", absl::StrCat("--data_dir=", folder_, "/data"),
                  "--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
                  absl::StrCat("--port_file=", folder_, "/ports")},
         .environment = {"PATH=/usr/bin:/bin"},
         .output_path = folder_ + "/log"});
    EXPECT_TRUE(process.ok()) << process.status();
    server_ = std::make_unique<common::Subprocess>(*std::move(process));
    const absl::Time deadline = absl::Now() + kDeadline;
    while (!std::filesystem::exists(folder_ + "/ports") && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    const std::string ports = common::ReadFile(folder_ + "/ports").value_or("");
    address_ = ports.substr(5, ports.find('\n') - 5);
    channel_ = Connect();
    jobs_ = v1::Jobs::NewStub(channel_);
  }

  ~HostileTest() override {
    EXPECT_FALSE(server_->HasEnded()) << common::ReadFile(folder_ + "/log").value_or("");
    EXPECT_TRUE(server_->Signal(SIGTERM).ok());
    const absl::Time deadline = absl::Now() + kDeadline;
    while (!server_->HasEnded() && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    const auto exit = server_->Reap();
    EXPECT_TRUE(exit.ok() && !exit->by_signal && exit->code == 0)
        << common::ReadFile(folder_ + "/log").value_or("");
    std::filesystem::remove_all(folder_);
  }

  std::shared_ptr<grpc::Channel> Connect() const {
    grpc::ChannelArguments arguments;
    arguments.SetMaxSendMessageSize(-1);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 1 << 20);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }

  // [bytes]
  int64_t StatusOfServer(absl::string_view name) const {
    const std::string text =
        common::ReadFile(absl::StrCat("/proc/", server_->pid(), "/status")).value_or("");
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      int64_t kilobytes = 0;
      if (absl::ConsumePrefix(&line, name) && absl::ConsumePrefix(&line, ":") &&
          absl::ConsumeSuffix(&line, " kB") && absl::SimpleAtoi(line, &kilobytes)) {
        return kilobytes * 1024;
      }
    }
    ADD_FAILURE() << "no " << name;
    return 0;
  }

  static grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel,
                           const std::string& path,
                           const std::string& bytes,
                           const std::function<void(grpc::ClientContext&)>& prepare = {}) {
    grpc::GenericStub stub(channel);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    if (prepare) {
      prepare(context);
    }
    const grpc::Slice slice(bytes);
    grpc::Status status;
    grpc::ByteBuffer response;
    auto call = stub.PrepareUnaryCall(&context, path, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  grpc::Status Validate(const v1::JobSpec& spec) {
    v1::CreateJobRequest request;
    *request.mutable_job()->mutable_spec() = spec;
    request.set_validate_only(true);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    v1::Job job;
    return jobs_->CreateJob(&context, request, &job);
  }

  template <typename Detail>
  static Detail DetailOf(const grpc::Status& status) {
    google::rpc::Status proto;
    Detail detail;
    if (proto.ParseFromString(status.error_details())) {
      for (const auto& any : proto.details()) {
        if (any.UnpackTo(&detail)) {
          return detail;
        }
      }
    }
    return Detail();
  }
  static std::string Reason(const grpc::Status& status) {
    return DetailOf<google::rpc::ErrorInfo>(status).reason();
  }

  std::string folder_;
  std::unique_ptr<common::Subprocess> server_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Jobs::Stub> jobs_;
};

TEST_F(HostileTest, NumbersThatAreNoneAreRefusedInEveryField) {
  ASSERT_TRUE(Validate(GoodSpec()).ok()) << Validate(GoodSpec()).error_message();
  int fields = 0;
  EveryField([&](v1::JobSpec& spec, Message& message, const FieldDescriptor& field,
                 const std::string& path) {
    const auto* reflection = message.GetReflection();
    const bool is_double = field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE;
    if (!is_double && field.cpp_type() != FieldDescriptor::CPPTYPE_FLOAT) {
      return;
    }
    ++fields;
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
          -std::numeric_limits<double>::infinity()}) {
      if (is_double) {
        field.is_repeated() ? reflection->AddDouble(&message, &field, value)
                            : reflection->SetDouble(&message, &field, value);
      } else {
        field.is_repeated() ? reflection->AddFloat(&message, &field, static_cast<float>(value))
                            : reflection->SetFloat(&message, &field, static_cast<float>(value));
      }
      const grpc::Status status = Validate(spec);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << path << " " << value;
      bool named = false;
      const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
      for (const auto& violation : bad_request.field_violations()) {
        named |= violation.field().find(field.name()) != std::string::npos;
      }
      EXPECT_TRUE(named) << path << "=" << value << ": " << status.error_message();
      if (field.is_repeated()) {
        reflection->ClearField(&message, &field);
      }
    }
  });
  EXPECT_GT(fields, 20);
}

TEST_F(HostileTest, ExtremeIntegersAreAnsweredOneWayOrTheOther) {
  int fields = 0;
  EveryField([&](v1::JobSpec& spec, Message& message, const FieldDescriptor& field,
                 const std::string& path) {
    const auto* reflection = message.GetReflection();
    for (const bool low : {false, true}) {
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT32: {
          const int32_t value =
              low ? std::numeric_limits<int32_t>::min() : std::numeric_limits<int32_t>::max();
          field.is_repeated() ? reflection->AddInt32(&message, &field, value)
                              : reflection->SetInt32(&message, &field, value);
          break;
        }
        case FieldDescriptor::CPPTYPE_INT64: {
          const int64_t value =
              low ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
          field.is_repeated() ? reflection->AddInt64(&message, &field, value)
                              : reflection->SetInt64(&message, &field, value);
          break;
        }
        case FieldDescriptor::CPPTYPE_ENUM:
          field.is_repeated() ? reflection->AddEnumValue(&message, &field, low ? -7 : 12345)
                              : reflection->SetEnumValue(&message, &field, low ? -7 : 12345);
          break;
        default:
          return;
      }
      ++fields;
      const grpc::Status status = Validate(spec);
      EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::INVALID_ARGUMENT)
          << path << ": " << status.error_code() << " " << status.error_message();
    }
  });
  EXPECT_GT(fields, 50);
}

TEST_F(HostileTest, ControlCharactersAndTricksWithPathsAreRefusedInEveryText) {
  int fields = 0;
  EveryField([&](v1::JobSpec& spec, Message& message, const FieldDescriptor& field,
                 const std::string& path) {
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
      return;
    }
    ++fields;
    const auto* reflection = message.GetReflection();
    for (const std::string& text : std::vector<std::string>{
             std::string("a\0b", 3), "\x1b[2Jgone", "line\nbreak", "\x7f", "../../../../etc/passwd",
             "/etc/passwd", "/proc/self/environ", std::string(100'000, 'x')}) {
      reflection->ClearField(&message, &field);
      field.is_repeated() ? reflection->AddString(&message, &field, text)
                          : reflection->SetString(&message, &field, text);
      const grpc::Status status = Validate(spec);
      const bool harmless_here =
          field.name() == "display_name" && text[0] != '\x1b' && (text[0] == '.' || text[0] == '/');
      EXPECT_EQ(status.error_code(),
                harmless_here ? grpc::StatusCode::OK : grpc::StatusCode::INVALID_ARGUMENT)
          << path << ": " << status.error_code() << " " << status.error_message();
      // Nothing of it comes back as it was.
      EXPECT_EQ(status.error_message().find('\x1b'), std::string::npos) << path;
      EXPECT_EQ(status.error_message().find('\n'), std::string::npos) << path;
      EXPECT_EQ(status.error_message().find("root:"), std::string::npos) << path;
    }
  });
  EXPECT_GT(fields, 5);
}

TEST_F(HostileTest, SizesAndNestingCostNeitherMemoryNorOthers) {
  const int64_t before = StatusOfServer("VmRSS");
  Bystander undisturbed(Connect());
  absl::SleepFor(absl::Milliseconds(300));  // the span that is measured
  const Bystander::Result quiet = undisturbed.Stop();
  Bystander bystander(Connect());
  const std::string create = "/normlab.v1.Jobs/CreateJob";

  // A field that claims 2 GiB, and one that claims more than there is.
  EXPECT_EQ(Reason(Call(channel_, create, std::string("\x0a\xff\xff\xff\xff\x07", 6))),
            "MALFORMED_REQUEST");
  // Groups in each other, every one of them closed, as an unknown field 15 after a request that is
  // good by itself: only their depth can be what is wrong. No message of the contract contains
  // itself, so there is no other way to nest.
  v1::CreateJobRequest good;
  *good.mutable_job()->mutable_spec() = GoodSpec();
  good.set_validate_only(true);
  const auto with_groups = [&good](size_t depth) {
    return absl::StrCat(good.SerializeAsString(), std::string(depth, '\x7b'),
                        std::string(depth, '\x7c'));
  };
  EXPECT_TRUE(Call(channel_, create, with_groups(50)).ok())
      << Call(channel_, create, with_groups(50)).error_message();
  for (const size_t depth : {size_t{150}, size_t{20'000}, size_t{1'000'000}}) {
    EXPECT_EQ(Reason(Call(channel_, create, with_groups(depth))), "MALFORMED_REQUEST") << depth;
  }

  // Ten million numbers in one list; a million labels; a million names of series.
  v1::CreateJobRequest wide;
  *wide.mutable_job()->mutable_spec() = GoodSpec();
  wide.mutable_job()->mutable_spec()->mutable_model()->mutable_mlp()->mutable_hidden()->Resize(
      10'000'000, 1);
  EXPECT_EQ(Call(channel_, create, wide.SerializeAsString()).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  wide = {};
  for (int i = 0; i < 200'000; ++i) {
    (*wide.mutable_job()->mutable_spec()->mutable_labels())[absl::StrCat("k", i)] = "v";
  }
  EXPECT_EQ(Call(channel_, create, wide.SerializeAsString()).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::ReadMetricsRequest series;
  series.set_name("jobs/00000000000000000000");
  for (int i = 0; i < 1'000'000; ++i) {
    series.add_series("x");
  }
  EXPECT_EQ(Call(channel_, "/normlab.v1.Jobs/ReadMetrics", series.SerializeAsString()).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::ListJobsRequest list;
  list.set_filter(std::string(1 << 20, '('));
  EXPECT_EQ(Reason(Call(channel_, "/normlab.v1.Jobs/ListJobs", list.SerializeAsString())),
            "INVALID_ARGUMENT");
  list.set_filter("");
  list.set_page_token(std::string(1 << 20, 'A'));
  EXPECT_EQ(Reason(Call(channel_, "/normlab.v1.Jobs/ListJobs", list.SerializeAsString())),
            "INVALID_PAGE_TOKEN");

  // Tensors that say they are larger than they are, or than anything.
  v1::NormalizeRequest normalize;
  for (int i = 0; i < 4; ++i) {
    normalize.mutable_input()->add_dims(std::numeric_limits<int64_t>::max());
  }
  EXPECT_FALSE(
      Call(channel_, "/normlab.v1.Normalization/Normalize", normalize.SerializeAsString()).ok());

  // Beyond what is received at all: just above the limit, and far above it.
  for (const size_t mebibytes : {65, 300}) {
    EXPECT_EQ(Call(channel_, create, std::string(mebibytes << 20, 'x')).error_code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  // As large as is received, four at a time.
  const std::string largest = absl::StrCat(
      // Field 15 of 63 MiB, unknown to CreateJobRequest.
      std::string("\x7a\x80\x80\x80\x1f"), std::string(size_t{62} << 20, '\0'));
  std::vector<std::thread> senders;
  for (int i = 0; i < 4; ++i) {
    senders.emplace_back([&] {
      const auto channel = Connect();
      for (int round = 0; round < 3; ++round) {
        EXPECT_FALSE(Call(channel, create, largest).ok());
      }
    });
  }
  for (std::thread& sender : senders) {
    sender.join();
  }
  // Headers.
  const grpc::Status headers = Call(channel_, create, "", [](grpc::ClientContext& context) {
    for (int i = 0; i < 100; ++i) {
      context.AddMetadata(absl::StrCat("x-", i), std::string(1000, 'x'));
    }
  });
  EXPECT_FALSE(headers.ok());

  const Bystander::Result others = bystander.Stop();
  const int64_t peak = StatusOfServer("VmHWM");
  std::printf("another client: %zu calls, median %s, worst %s; server %lld MiB, at most %lld MiB\n",
              others.calls, absl::FormatDuration(others.median).c_str(),
              absl::FormatDuration(others.worst).c_str(), static_cast<long long>(before >> 20),
              static_cast<long long>(peak >> 20));
  EXPECT_EQ(others.failures, 0);
  EXPECT_GT(others.calls, 20u);
  EXPECT_LT(others.median, std::max(kMaxMedianLatency, kMaxSlowdown * quiet.median));
  EXPECT_LT(others.worst, std::max(kMaxLatency, kMaxSlowdown * quiet.worst));
  EXPECT_LT(peak - before, kMaxGrowthBytes);
}

}  // namespace
}  // namespace normlab
