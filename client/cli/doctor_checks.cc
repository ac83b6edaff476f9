#include "client/cli/doctor_checks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "client/cli/output.h"
#include "client/lib/certificate.h"
#include "client/lib/number_format.h"
#include "client/lib/proto_time.h"
#include "client/lib/rpc_error.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::client {
namespace {

using normlab::v1::Caller;
using normlab::v1::Disk;
using normlab::v1::ServerInfo;

constexpr absl::Duration kSlowAnswer = absl::Seconds(1);
constexpr absl::Duration kClockTolerance = absl::Seconds(2);
// Beyond it certificates and filters by time go wrong.
constexpr absl::Duration kClockBroken = absl::Minutes(5);
constexpr absl::Duration kRenewSoon = absl::Hours(24 * 30);
constexpr absl::Duration kRenewNow = absl::Hours(24 * 3);
constexpr int64_t kLowDisk = int64_t{5} << 30;
constexpr int64_t kFullDisk = int64_t{512} << 20;
// Large disks may be nearly full and still have room for long.
constexpr double kLowDiskShare = 0.06;
constexpr int64_t kLittleMemory = int64_t{512} << 20;

std::set<std::string> KindsOf(const google::protobuf::Descriptor& message, const char* oneof) {
  std::set<std::string> names;
  const google::protobuf::OneofDescriptor* kinds = message.FindOneofByName(oneof);
  for (int i = 0; kinds != nullptr && i < kinds->field_count(); ++i) {
    names.insert(std::string(kinds->field(i)->name()));
  }
  return names;
}

// What is in `all` and not in `known`.
void AddMissing(const std::set<std::string>& all,
                const std::set<std::string>& known,
                std::vector<std::string>& missing) {
  std::set_difference(all.begin(), all.end(), known.begin(), known.end(),
                      std::back_inserter(missing));
}

std::string Bytes(int64_t bytes) {
  return FormatBytes(static_cast<double>(bytes));
}

// "3 days", "5 hours".
std::string Roughly(absl::Duration duration) {
  const auto hours = static_cast<int64_t>(absl::ToDoubleHours(duration));
  return hours >= 48 ? absl::StrCat(hours / 24, " days") : absl::StrCat(hours, " hours");
}

}  // namespace

std::string LevelName(Level level) {
  return level == Level::kOk ? "OK" : level == Level::kWarning ? "WARNING" : "PROBLEM";
}

Level Worst(const std::vector<Finding>& findings) {
  Level worst = Level::kOk;
  for (const Finding& finding : findings) {
    worst = std::max(worst, finding.level);
  }
  return worst;
}

Finding CheckConnection(const ServerProbe& probe, const std::string& server) {
  const absl::Duration took = probe.received - probe.sent;
  Finding finding{.check = "connection",
                  .message = absl::StrFormat("%s answers in %.1f ms", Printable(server),
                                             absl::ToDoubleMilliseconds(took))};
  if (took > kSlowAnswer) {
    finding.level = Level::kWarning;
    finding.advice = "the server or the way to it is slow: compare on the server's own machine";
  }
  return finding;
}

Finding CheckHealth(const ServerProbe& probe) {
  switch (probe.health) {
    case ServerHealth::kServing:
      return {.check = "health", .message = "takes calls"};
    case ServerHealth::kNotServing:
      return {.check = "health",
              .level = Level::kProblem,
              .message = "says NOT_SERVING: it takes no jobs at present",
              .advice =
                  "its HTTP page /readyz says why (it is being stopped, or its database or "
                  "disk is in trouble)"};
    case ServerHealth::kUnknown:
      break;
  }
  return {.check = "health",
          .level = Level::kWarning,
          .message = "the health service does not answer",
          .advice =
              "something between here and the server may keep it back; ask the HTTP page "
              "/readyz"};
}

Finding CheckVersion(const ServerProbe& probe, const std::string& client_version) {
  const ServerInfo& info = probe.info;
  Finding finding{.check = "version"};
  std::vector<std::string> unknown_here;
  std::vector<std::string> unknown_there;
  const auto compare = [&](const google::protobuf::Descriptor* message, const char* oneof,
                           const google::protobuf::RepeatedPtrField<std::string>& theirs) {
    const std::set<std::string> mine = KindsOf(*message, oneof);
    const std::set<std::string> known(theirs.begin(), theirs.end());
    AddMissing(known, mine, unknown_here);
    AddMissing(mine, known, unknown_there);
  };
  compare(normlab::v1::Model::descriptor(), "kind", info.models());
  compare(normlab::v1::Normalizer::descriptor(), "kind", info.normalizations());
  compare(normlab::v1::Data::descriptor(), "source", info.data_sets());
  compare(normlab::v1::Initializer::descriptor(), "kind", info.initializers());
  compare(normlab::v1::Optimizer::descriptor(), "kind", info.optimizers());
  if (unknown_here.empty() && unknown_there.empty() && info.version() == client_version) {
    finding.message = absl::StrCat("client and server are ", client_version,
                                   " and know the same kinds of everything");
    return finding;
  }
  finding.level = Level::kWarning;
  finding.message =
      absl::StrCat("the client is ", client_version, ", the server ", Printable(info.version()));
  if (!unknown_there.empty()) {
    absl::StrAppend(&finding.message, "; the server does not know ",
                    absl::StrJoin(unknown_there, ", "));
  }
  if (!unknown_here.empty()) {
    absl::StrAppend(&finding.message, "; the client does not know ",
                    Printable(absl::StrJoin(unknown_here, ", ")));
  }
  finding.advice = "install the same version on both sides; what both know works meanwhile";
  return finding;
}

Finding CheckCaller(const ServerProbe& probe) {
  const Caller& caller = probe.info.caller();
  Finding finding{.check = "caller",
                  .message = absl::StrCat(
                      "you are ", caller.name().empty() ? "" : "token ", Printable(caller.name()),
                      caller.name().empty() ? "" : ", ", Caller::Role_Name(caller.role()),
                      " of the owner ", Printable(caller.owner()))};
  if (caller.role() == Caller::VIEWER) {
    finding.level = Level::kWarning;
    finding.advice =
        "a viewer reads and submits nothing: ask for a token of the role submitter "
        "if you want to";
  }
  return finding;
}

Finding CheckEngine(const ServerProbe& probe) {
  const ServerInfo& info = probe.info;
  if (info.isa().empty()) {
    return {.check = "engine",
            .level = Level::kProblem,
            .message = "the server's helper process does not start, so no job can be accepted",
            .advice =
                "look into log/helper.log in the server's data folder, and whether "
                "normlab-worker lies beside normlabd (--worker_binary)"};
  }
  Finding finding{.check = "engine",
                  .message = absl::StrCat("oneDNN ", Printable(info.onednn_version()), " for ",
                                          Printable(info.isa()))};
  if (!absl::StrContains(info.isa(), "AVX2") && !absl::StrContains(info.isa(), "AVX512") &&
      !absl::StrContains(info.isa(), "AMX")) {
    finding.level = Level::kWarning;
    finding.advice =
        "without AVX2 training is several times slower: does a virtual machine hide "
        "the processor's instructions?";
  }
  return finding;
}

Finding CheckCapacity(const ServerProbe& probe) {
  const ServerInfo& info = probe.info;
  Finding finding{
      .check = "capacity",
      .message = absl::StrCat(info.reserved_cores(), " of ", info.cores(), " cores and ",
                              Bytes(info.reserved_memory_bytes()), " of ",
                              Bytes(info.memory_bytes()), " are taken; ", info.running_jobs(),
                              " jobs run, ", info.queued_jobs(), " wait")};
  if (info.memory_bytes() < kLittleMemory) {
    finding.level = Level::kWarning;
    finding.advice =
        "few nets fit: give the server (or its container) more memory, or raise "
        "--memory";
  } else if (info.queue_limit() > 0 && info.queued_jobs() * 10 >= info.queue_limit() * 9) {
    finding.level = Level::kWarning;
    finding.advice = absl::StrCat("the queue is nearly full (", info.queue_limit(),
                                  "): cancel what is not needed, or wait before you submit more");
  }
  return finding;
}

std::vector<Finding> CheckDisks(const ServerProbe& probe) {
  std::vector<Finding> findings;
  for (const Disk& disk : probe.info.disks()) {
    const bool is_data = disk.kind() == Disk::DATA;
    const double share = disk.total_bytes() > 0 ? static_cast<double>(disk.free_bytes()) /
                                                      static_cast<double>(disk.total_bytes())
                                                : 0;
    Finding finding{
        .check = is_data ? "data disk" : "work disk",
        .message = absl::StrFormat("%s of %s free (%.0f%%), for %s", Bytes(disk.free_bytes()),
                                   Bytes(disk.total_bytes()), 100 * share,
                                   is_data ? "the database" : "checkpoints and decoded data sets")};
    const char* const make_room =
        is_data ? "make room, or delete old jobs (normlab delete, normlabd --retention_days)"
                : "make room, delete old jobs, or move it to a larger disk (normlabd --work_dir)";
    if (disk.free_bytes() < kFullDisk) {
      finding.level = Level::kProblem;
      finding.advice = make_room;
    } else if (disk.free_bytes() < kLowDisk && share < kLowDiskShare) {
      finding.level = Level::kWarning;
      finding.advice = make_room;
    }
    findings.push_back(std::move(finding));
  }
  if (findings.empty()) {
    findings.push_back({.check = "disks",
                        .level = Level::kWarning,
                        .message = "the server does not say how much room it has",
                        .advice = "look on its machine: df DATA_FOLDER WORK_FOLDER"});
  }
  return findings;
}

Finding CheckClock(const ServerProbe& probe) {
  if (!probe.info.has_time()) {
    return {.check = "clock",
            .level = Level::kWarning,
            .message = "the server does not tell its time",
            .advice = "install the same version on both sides"};
  }
  const absl::Time theirs = ToTime(probe.info.time());
  // The server answered at some moment between the two.
  const absl::Duration difference =
      theirs > probe.received ? theirs - probe.received
                              : (theirs < probe.sent ? probe.sent - theirs : absl::ZeroDuration());
  Finding finding{.check = "clock"};
  if (difference < kClockTolerance) {
    finding.message =
        absl::StrFormat("the server's clock and this one differ by %s",
                        difference == absl::ZeroDuration() ? std::string("less than the call took")
                                                           : absl::FormatDuration(difference));
    return finding;
  }
  finding.level = difference > kClockBroken ? Level::kProblem : Level::kWarning;
  finding.message =
      absl::StrFormat("the server's clock is %.0f s %s this one", absl::ToDoubleSeconds(difference),
                      theirs > probe.received ? "ahead of" : "behind");
  finding.advice =
      "let both machines follow a time server (timedatectl status); filters by time "
      "and certificates depend on it";
  return finding;
}

Finding CheckCertificate(const std::string& what, const std::string& pem, absl::Time now) {
  Finding finding{.check = "certificate"};
  const absl::StatusOr<CertificateFacts> facts = ReadCertificate(pem);
  if (!facts.ok()) {
    finding.level = Level::kProblem;
    finding.message = absl::StrCat("that ", what, " cannot be read: ", facts.status().message());
    finding.advice = "name a certificate in PEM form";
    return finding;
  }
  const absl::Duration left = facts->not_after - now;
  const std::string day = absl::FormatTime("%Y-%m-%d", facts->not_after, absl::UTCTimeZone());
  if (left <= absl::ZeroDuration() || facts->not_before > now) {
    finding.level = Level::kProblem;
    finding.message = absl::StrCat(
        "that ", what, " (", Printable(facts->subject),
        left <= absl::ZeroDuration() ? ") expired on " : ") is not valid yet; until ", day);
    finding.advice = "renew it, or set this machine's clock right";
    return finding;
  }
  finding.message = absl::StrCat("that ", what, " (", Printable(facts->subject),
                                 ") is valid until ", day, ", for ", Roughly(left));
  if (left < kRenewSoon) {
    finding.level = left < kRenewNow ? Level::kProblem : Level::kWarning;
    finding.advice =
        "renew it and replace the files: the server takes a new certificate within a "
        "second, without a restart";
  }
  return finding;
}

normlab::v1::NormalizeRequest WorkerProbeRequest() {
  normlab::v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch();
  request.mutable_input()->add_dims(4);
  request.mutable_input()->add_dims(1);
  for (const float value : {-1.5F, -0.5F, 0.5F, 1.5F}) {
    request.mutable_input()->add_values(value);
  }
  return request;
}

Finding CheckWorker(const absl::StatusOr<normlab::v1::NormalizeResponse>& response) {
  Finding finding{.check = "worker"};
  if (absl::IsPermissionDenied(response.status())) {
    finding.level = Level::kWarning;
    finding.message = "not tried: that needs the role submitter";
    finding.advice = "run normlab doctor with a submitter's token to have all checked";
    return finding;
  }
  if (!response.ok()) {
    finding.level = Level::kProblem;
    finding.message =
        absl::StrCat("no process of the engine computes: ", DescribeError(response.status()));
    finding.advice =
        "look into log/normalizer.log in the server's data folder; jobs will fail in "
        "the same way";
    return finding;
  }
  // (x - mean) / sqrt(var + eps) of -1.5, -0.5, 0.5, 1.5: mean 0, biased variance 1.25, eps 1e-5.
  constexpr std::array<double, 4> kExpected = {-1.341635, -0.447212, 0.447212, 1.341635};
  constexpr double kTolerance = 1e-4;  // of float32, after six digits
  bool right = response->output().values_size() == static_cast<int>(kExpected.size());
  for (int i = 0; right && i < response->output().values_size(); ++i) {
    right = std::abs(response->output().values(i) - kExpected[static_cast<size_t>(i)]) < kTolerance;
  }
  if (!right) {
    finding.level = Level::kProblem;
    finding.message = "a process of the engine starts but computes wrong numbers";
    finding.advice = "trust no result of this machine; run tests/run there and report it";
    return finding;
  }
  finding.message = absl::StrCat("a process of the engine starts and computes (",
                                 Printable(response->implementation()), ")");
  return finding;
}

Finding CheckDataSets(const std::vector<DataSetAnswer>& answers, const ServerInfo& info) {
  Finding finding{.check = "data sets"};
  std::vector<std::string> there;
  std::vector<std::string> missing;
  for (const DataSetAnswer& answer : answers) {
    if (absl::IsPermissionDenied(answer.status)) {
      finding.level = Level::kWarning;
      finding.message = "not looked for: that needs the role submitter";
      finding.advice = "run normlab doctor with a submitter's token to have all checked";
      return finding;
    }
    if (answer.status.ok()) {
      there.push_back(absl::StrCat(answer.name, " (", answer.description, ")"));
    } else if (absl::IsInvalidArgument(answer.status) || absl::IsNotFound(answer.status)) {
      missing.push_back(answer.name);
    } else {
      finding.level = Level::kProblem;
      finding.message =
          absl::StrCat(answer.name, " cannot be looked for: ", DescribeError(answer.status));
      finding.advice = "look into log/helper.log in the server's data folder";
      return finding;
    }
  }
  const std::string roots = Printable(absl::StrJoin(info.data_roots(), ", "));
  if (there.empty()) {
    finding.level = Level::kWarning;
    finding.message =
        absl::StrCat("none of ", absl::StrJoin(missing, ", "), " is there; synthetic ones work");
    finding.advice = absl::StrCat(
        "install Debian's package dataset-fashion-mnist on the server, or "
        "put a data set's folder below one of ",
        roots);
    return finding;
  }
  finding.message = absl::StrJoin(there, "; ");
  if (!missing.empty()) {
    absl::StrAppend(&finding.message, "; not below ", roots, ": ", absl::StrJoin(missing, ", "));
  }
  return finding;
}

}  // namespace normlab::client
