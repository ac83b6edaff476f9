#include "client/cli/doctor_checks.h"

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::client {
namespace {

using normlab::v1::Caller;
using normlab::v1::Disk;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kNow = 1'700'000'000;

ServerProbe ProbeAt(double server_seconds) {
  ServerProbe probe;
  probe.sent = absl::FromUnixSeconds(kNow);
  probe.received = absl::FromUnixSeconds(kNow) + absl::Milliseconds(2);
  const absl::Time theirs = absl::FromUnixSeconds(kNow) + absl::Seconds(server_seconds);
  probe.info.mutable_time()->set_seconds(absl::ToUnixSeconds(theirs));
  probe.info.mutable_time()->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(theirs - absl::FromUnixSeconds(absl::ToUnixSeconds(theirs)))));
  return probe;
}

template <typename Message>
void AddAllKinds(const char* oneof, google::protobuf::RepeatedPtrField<std::string>* names) {
  const auto* kinds = Message::descriptor()->FindOneofByName(oneof);
  for (int i = 0; i < kinds->field_count(); ++i) {
    names->Add(std::string(kinds->field(i)->name()));
  }
}

ServerProbe SameVersion() {
  ServerProbe probe;
  probe.info.set_version("1.2.3");
  AddAllKinds<normlab::v1::Model>("kind", probe.info.mutable_models());
  AddAllKinds<normlab::v1::Normalizer>("kind", probe.info.mutable_normalizations());
  AddAllKinds<normlab::v1::Data>("source", probe.info.mutable_data_sets());
  AddAllKinds<normlab::v1::Initializer>("kind", probe.info.mutable_initializers());
  AddAllKinds<normlab::v1::Optimizer>("kind", probe.info.mutable_optimizers());
  return probe;
}

TEST(DoctorChecksTest, ClocksAreComparedWithinTheCall) {
  EXPECT_EQ(CheckClock(ProbeAt(0.001)).level, Level::kOk);
  EXPECT_THAT(CheckClock(ProbeAt(0.001)).message, HasSubstr("less than the call took"));
  EXPECT_EQ(CheckClock(ProbeAt(1.5)).level, Level::kOk);
  const Finding behind = CheckClock(ProbeAt(-7));
  EXPECT_EQ(behind.level, Level::kWarning);
  EXPECT_THAT(behind.message, HasSubstr("7 s behind"));
  const Finding ahead = CheckClock(ProbeAt(3600));
  EXPECT_EQ(ahead.level, Level::kProblem);
  EXPECT_THAT(ahead.message, HasSubstr("3600 s ahead of"));
  EXPECT_EQ(CheckClock(ServerProbe()).level, Level::kWarning);
}

TEST(DoctorChecksTest, DisksThatFillAreToldInTime) {
  ServerProbe probe;
  Disk& data = *probe.info.add_disks();
  data.set_kind(Disk::DATA);
  data.set_total_bytes(100 * kGiB);
  Disk& work = *probe.info.add_disks();
  work.set_kind(Disk::WORK);
  work.set_total_bytes(1000 * kGiB);
  data.set_free_bytes(50 * kGiB);
  work.set_free_bytes(4 * kGiB);  // 0.4%
  std::vector<Finding> findings = CheckDisks(probe);
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].level, Level::kOk);
  EXPECT_EQ(findings[1].level, Level::kWarning);
  EXPECT_THAT(findings[1].advice, HasSubstr("--work_dir"));
  probe.info.mutable_disks(0)->set_free_bytes(kGiB / 4);
  findings = CheckDisks(probe);
  EXPECT_EQ(findings[0].level, Level::kProblem);
  EXPECT_THAT(findings[0].advice, HasSubstr("--retention_days"));
  // A small disk of which much is free is no reason to worry.
  probe.info.mutable_disks(0)->set_total_bytes(2 * kGiB);
  probe.info.mutable_disks(0)->set_free_bytes(kGiB);
  EXPECT_EQ(CheckDisks(probe)[0].level, Level::kOk);
  EXPECT_EQ(CheckDisks(ServerProbe())[0].level, Level::kWarning);
}

TEST(DoctorChecksTest, VersionsAndKindsAreCompared) {
  ServerProbe probe = SameVersion();
  EXPECT_EQ(CheckVersion(probe, "1.2.3").level, Level::kOk);
  EXPECT_EQ(CheckVersion(probe, "1.2.4").level, Level::kWarning);
  probe.info.add_models("transformer");
  probe.info.mutable_normalizations()->RemoveLast();
  const Finding finding = CheckVersion(probe, "1.2.3");
  EXPECT_EQ(finding.level, Level::kWarning);
  EXPECT_THAT(finding.message, AllOf(HasSubstr("the client does not know transformer"),
                                     HasSubstr("the server does not know")));
}

TEST(DoctorChecksTest, TheWorkersNumbersAreChecked) {
  normlab::v1::NormalizeResponse response;
  EXPECT_EQ(CheckWorker(response).level, Level::kProblem);
  for (const float value : {-1.3416355F, -0.4472118F, 0.4472118F, 1.3416355F}) {
    response.mutable_output()->add_values(value);
  }
  EXPECT_EQ(CheckWorker(response).level, Level::kOk);
  response.mutable_output()->set_values(2, 0.4475F);
  EXPECT_EQ(CheckWorker(response).level, Level::kProblem);
  EXPECT_THAT(CheckWorker(response).message, HasSubstr("wrong numbers"));
  EXPECT_EQ(CheckWorker(absl::PermissionDeniedError("no")).level, Level::kWarning);
  EXPECT_THAT(CheckWorker(absl::InternalError("it crashed")).message, HasSubstr("it crashed"));
  EXPECT_EQ(WorkerProbeRequest().input().values_size(), 4);
}

TEST(DoctorChecksTest, DataSetsThatAreNotThereAreNoProblem) {
  normlab::v1::ServerInfo info;
  info.add_data_roots("/usr/share/datasets");
  const absl::Status missing = absl::InvalidArgumentError("data.mnist.path: there is no folder");
  Finding finding = CheckDataSets({{.name = "fashion_mnist", .description = "60000 + 10000"},
                                   {.name = "mnist", .status = missing}},
                                  info);
  EXPECT_EQ(finding.level, Level::kOk);
  EXPECT_EQ(finding.message, "fashion_mnist (60000 + 10000); not below /usr/share/datasets: mnist");
  finding = CheckDataSets({{.name = "mnist", .status = missing}}, info);
  EXPECT_EQ(finding.level, Level::kWarning);
  EXPECT_THAT(finding.advice, HasSubstr("dataset-fashion-mnist"));
  finding =
      CheckDataSets({{.name = "mnist", .status = absl::InternalError("the helper died")}}, info);
  EXPECT_EQ(finding.level, Level::kProblem);
  EXPECT_THAT(finding.message, HasSubstr("the helper died"));
}

TEST(DoctorChecksTest, TheRest) {
  ServerProbe probe;
  EXPECT_EQ(CheckEngine(probe).level, Level::kProblem);
  probe.info.set_isa("SSE41");
  EXPECT_EQ(CheckEngine(probe).level, Level::kWarning);
  probe.info.set_isa("AVX512_CORE_AMX");
  EXPECT_EQ(CheckEngine(probe).level, Level::kOk);
  probe.health = ServerHealth::kNotServing;
  EXPECT_EQ(CheckHealth(probe).level, Level::kProblem);
  probe.info.set_memory_bytes(8 * kGiB);
  probe.info.set_queue_limit(100);
  probe.info.set_queued_jobs(89);
  EXPECT_EQ(CheckCapacity(probe).level, Level::kOk);
  probe.info.set_queued_jobs(90);
  EXPECT_EQ(CheckCapacity(probe).level, Level::kWarning);
  probe.info.mutable_caller()->set_role(Caller::VIEWER);
  EXPECT_EQ(CheckCaller(probe).level, Level::kWarning);
  EXPECT_EQ(CheckCertificate("of the server", "nonsense", absl::Now()).level, Level::kProblem);
  EXPECT_EQ(Worst({}), Level::kOk);
  EXPECT_EQ(Worst({{.level = Level::kWarning}, {.level = Level::kProblem}, {}}), Level::kProblem);
}

TEST(DoctorChecksTest, NothingIsStarted) {
  normlab::v1::ListJobsResponse waiting;
  EXPECT_EQ(CheckStarts(waiting).level, Level::kOk);
  waiting.add_jobs()->set_queue_reason("waits for 1 core: 0 of 2 free, 0 jobs before it");
  EXPECT_EQ(CheckStarts(waiting).level, Level::kOk);
  waiting.add_jobs()->set_queue_reason("waits for the machine: the work folder /w is full\x1b[2J");
  const Finding held = CheckStarts(waiting);
  EXPECT_EQ(held.level, Level::kProblem);
  EXPECT_THAT(held.message, ::testing::StartsWith("no job is started: the work folder /w is full"));
  EXPECT_THAT(held.message, ::testing::Not(::testing::HasSubstr("\x1b")));
  EXPECT_FALSE(held.advice.empty());
  EXPECT_EQ(CheckStarts(absl::UnavailableError("gone")).level, Level::kWarning);
}

}  // namespace
}  // namespace normlab::client
