// Flags, options, addresses, machine limits: everything decided before a server starts.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/app/byte_size.h"
#include "server/app/data_dir_lock.h"
#include "server/app/flag_values.h"
#include "server/app/flags.h"
#include "server/app/listen_address.h"
#include "server/app/machine.h"
#include "server/app/options.h"
#include "server/app/worker_socket.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class FolderTest : public ::testing::Test {
 protected:
  FolderTest() {
    std::string pattern =
        (std::filesystem::path(::testing::TempDir()) / "settings.XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  ~FolderTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  std::string folder_;
};

using MachineTest = FolderTest;
using DataDirLockTest = FolderTest;
using WorkerSocketTest = FolderTest;
using OptionsTest = FolderTest;
using FlagValuesTest = FolderTest;

TEST(ByteSizeTest, ReadsUnitsAndRefusesNonsense) {
  const auto parse = [](const std::string& text) {
    ByteSize size;
    std::string error;
    return AbslParseFlag(text, &size, &error) ? size.bytes : -1;
  };
  EXPECT_EQ(parse("0"), 0);
  EXPECT_EQ(parse("12345"), 12345);
  EXPECT_EQ(parse("3K"), 3072);
  EXPECT_EQ(parse("8192M"), int64_t{8} << 30);
  EXPECT_EQ(parse("8GiB"), int64_t{8} << 30);
  EXPECT_EQ(parse("8gb"), int64_t{8} << 30);
  EXPECT_EQ(parse("1.5G"), int64_t{3} << 29);
  EXPECT_EQ(parse("1t"), int64_t{1} << 40);
  for (const char* bad : {"", "G", "-1", "nan", "inf", "1e300", "12 apples", "1GG", "99999T"}) {
    EXPECT_EQ(parse(bad), -1) << bad;
  }
  EXPECT_EQ(AbslUnparseFlag({int64_t{12} << 30}), "12GiB");
  EXPECT_EQ(AbslUnparseFlag({1000}), "1000");
  EXPECT_EQ(AbslUnparseFlag({0}), "0");
}

TEST(FlagsTest, HelpShowsEveryFlagOfThisProgram) {
  const std::string help = HelpText();
  for (const std::string& name : HelpFlagNames()) {
    ASSERT_NE(absl::FindCommandLineFlag(name), nullptr) << name;
    EXPECT_THAT(help, HasSubstr(absl::StrCat("--", name, "=")));
  }
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::StrContains(flag->Filename(), "server/app/flags.cc")) {
      EXPECT_THAT(HelpFlagNames(), Contains(std::string(name)));
    }
  }
  EXPECT_THAT(help, HasSubstr("--listen=127.0.0.1:7600"));
  EXPECT_THAT(help, HasSubstr("--orphan_timeout=24h"));
}

TEST_F(FlagValuesTest, EveryFormOfAFlagIsRead) {
  const auto set = [](std::vector<std::string> arguments) {
    return std::string(SetFlags(arguments, HelpFlagNames()).message());
  };
  const auto value = [](const char* name) {
    return absl::FindCommandLineFlag(name)->CurrentValue();
  };
  EXPECT_EQ(set({"--listen=127.0.0.1:1", "-cores", "3", "--nopin"}), "");
  EXPECT_EQ(value("listen"), "127.0.0.1:1");
  EXPECT_EQ(value("cores"), "3");
  EXPECT_EQ(value("pin"), "false");
  Write("/flags", "# of this machine\n--cores=2\n\n  --pin  \n");
  EXPECT_EQ(set({absl::StrCat("--flagfile=", folder_, "/flags"), "--listen=127.0.0.1:2"}), "");
  EXPECT_EQ(value("cores"), "2");
  EXPECT_EQ(value("pin"), "true");

  EXPECT_THAT(set({"stray"}), HasSubstr("\"stray\" is not a flag"));
  EXPECT_THAT(set({"--lsten=x"}), HasSubstr("did you mean --listen?"));
  EXPECT_THAT(set({"--nosuchthing"}), HasSubstr("--help"));
  EXPECT_THAT(set({"--cores=many"}), HasSubstr("--cores=many"));
  EXPECT_THAT(set({"--listen"}), HasSubstr("no value"));
  EXPECT_THAT(set({"--nolisten"}), HasSubstr("there is no flag --nolisten"));
  EXPECT_THAT(set({"--flagfile=/no/such/file"}), HasSubstr("/no/such/file"));
  Write("/loop", absl::StrCat("--flagfile=", folder_, "/loop\n"));
  EXPECT_THAT(set({absl::StrCat("--flagfile=", folder_, "/loop")}), HasSubstr("one file"));
  // The flags of libraries are not ours.
  EXPECT_THAT(set({"--flagfile_recursive=x"}), HasSubstr("there is no flag"));
  for (const std::string& name : HelpFlagNames()) {
    absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    std::string error;
    ASSERT_TRUE(flag->ParseFrom(flag->DefaultValue(), &error)) << name;
  }
}

TEST_F(OptionsTest, NothingLeavesTheMachineWithoutTlsAndTokens) {
  Write("/tokens", "");
  const auto why = [this](auto change) {
    RawOptions raw;
    raw.data_dir = folder_ + "/data";
    raw.worker_binary = "/bin/true";
    raw.auth = "tokens";
    raw.tokens_file = folder_ + "/tokens";
    change(raw);
    return std::string(ResolveOptions(raw).status().message());
  };
  EXPECT_EQ(why([](RawOptions& /*raw*/) {}), "");
  EXPECT_THAT(why([](RawOptions& raw) { raw.listen = "0.0.0.0:7600"; }), HasSubstr("--tls_cert"));
  EXPECT_EQ(why([](RawOptions& raw) {
              raw.listen = "0.0.0.0:7600";
              raw.allow_plaintext = true;
            }),
            "");
  // There is no data of jobs behind it.
  EXPECT_EQ(why([](RawOptions& raw) { raw.http_listen = "0.0.0.0:7601"; }), "");
  const auto none = [](RawOptions& raw) {
    raw.auth = "none";
    raw.tokens_file.clear();
    raw.allow_plaintext = true;
  };
  EXPECT_EQ(why(none), "");
  EXPECT_THAT(why([&](RawOptions& raw) {
                none(raw);
                raw.listen = "0.0.0.0:7600";
              }),
              HasSubstr("--auth=tokens"));
  EXPECT_THAT(why([&](RawOptions& raw) {
                none(raw);
                raw.http_listen = "0.0.0.0:7601";
              }),
              HasSubstr("--http_listen"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.tokens_file.clear(); }), HasSubstr("--tokens_file"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.auth = "none"; }), HasSubstr("--auth=tokens"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.auth = "ldap"; }), HasSubstr("ldap"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.tls.key = "/x"; }), HasSubstr("--tls_cert"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.requests_per_second = -1; }),
              HasSubstr("--requests_per_second"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.streams_per_owner = -1; }),
              HasSubstr("--streams_per_owner"));
}

TEST(ListenAddressTest, ResolvesOnceToANumber) {
  const auto v4 = ResolveListenAddress("listen", "127.0.0.1:7600");
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_EQ(v4->ToString(), "127.0.0.1:7600");
  EXPECT_TRUE(v4->loopback);
  const auto name = ResolveListenAddress("listen", "localhost:0");
  ASSERT_TRUE(name.ok()) << name.status();
  EXPECT_TRUE(name->loopback);
  EXPECT_NE(name->host, "localhost");
  const auto v6 = ResolveListenAddress("listen", "[::1]:80");
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_EQ(v6->ToString(), "[::1]:80");
  EXPECT_TRUE(v6->loopback);
}

TEST(ListenAddressTest, RefusesWhatIsNoAddress) {
  for (const char* bad :
       {"", "7600", "localhost", ":7600", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http",
        "127.0.0.1:-1", "::1:7600", "[::1:7600", "no.such.host.invalid:1"}) {
    const auto address = ResolveListenAddress("listen", bad);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("--listen="));
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("HOST:PORT"));
  }
}

TEST(ListenAddressTest, OnlyLoopbackWithoutAuthentication) {
  for (const char* open : {"0.0.0.0:7600", "[::]:7600", "192.0.2.7:7600"}) {
    const auto address = ResolveListenAddress("listen", open);
    ASSERT_TRUE(address.ok()) << address.status();
    const absl::Status status = RequireLoopback("listen", *address);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << open;
    EXPECT_THAT(std::string(status.message()), HasSubstr("ssh -L"));
  }
  EXPECT_TRUE(RequireLoopback("listen", *ResolveListenAddress("listen", "127.9.9.9:1")).ok());
}

TEST_F(OptionsTest, FindsDefaultsAndMakesPathsAbsolute) {
  RawOptions raw;
  raw.data_dir = folder_ + "//data/";
  raw.worker_binary = "/bin/true";
  raw.listen = "127.0.0.1:0";
  const auto options = ResolveOptions(raw);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->data_dir, folder_ + "/data");
  EXPECT_EQ(options->work_dir, folder_ + "/data/work");
  EXPECT_THAT(options->data_roots, ElementsAre("/usr/share/datasets", folder_ + "/data/datasets"));
  EXPECT_FALSE(options->cores.empty());
  EXPECT_GT(options->memory_bytes, 1 << 20);
}

TEST_F(OptionsTest, SlurmNeedsAWayForWorkersToComeHere) {
  const auto resolve = [this](auto change) {
    RawOptions raw;
    raw.data_dir = folder_ + "/data";
    raw.worker_binary = "/bin/true";
    raw.executor = "slurm";
    raw.worker_listen = "127.0.0.1:7602";
    change(raw);
    return ResolveOptions(raw);
  };
  const auto why = [&resolve](auto change) {
    return std::string(resolve(change).status().message());
  };
  const auto options = resolve([](RawOptions& raw) {
    raw.slurm.partition = "cpu";
    raw.slurm_max_attempts = 7;
    raw.slurm_mpi = "pmix_v4";
  });
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_TRUE(options->remote.has_value());
  EXPECT_EQ(options->remote->worker_address, "127.0.0.1:7602");
  EXPECT_EQ(options->remote->slurm.wishes.partition, "cpu");
  EXPECT_EQ(options->remote->slurm.max_attempts, 7);
  EXPECT_EQ(options->remote->slurm.mpi, "pmix_v4");
  EXPECT_EQ(options->remote->worker_ca, "");

  EXPECT_THAT(why([](RawOptions& raw) { raw.worker_listen.clear(); }),
              HasSubstr("--worker_listen"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.worker_listen = "127.0.0.1:0"; }), HasSubstr("not 0"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.worker_listen = "0.0.0.0:7602"; }),
              HasSubstr("--worker_address"));
  EXPECT_THAT(why([](RawOptions& raw) {
                raw.worker_listen = "0.0.0.0:7602";
                raw.worker_address = "head:7602";
              }),
              HasSubstr("--tls_cert"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.worker_ca = "/ca.pem"; }), HasSubstr("--tls_cert"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.slurm.constraint = "a b"; }),
              HasSubstr("--slurm_constraint"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.slurm_mpi = "pmix --x"; }), HasSubstr("--slurm_mpi"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.slurm_mpi.clear(); }), HasSubstr("srun --mpi=list"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.slurm_max_attempts = 0; }),
              HasSubstr("--slurm_max_attempts"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.slurm_poll = absl::ZeroDuration(); }),
              HasSubstr("--slurm_poll"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.hello_timeout = -absl::Seconds(1); }),
              HasSubstr("--hello_timeout"));
  EXPECT_THAT(why([](RawOptions& raw) { raw.executor = "cloud"; }), HasSubstr("local or slurm"));
  // None of it is for a server that runs jobs itself.
  EXPECT_THAT(why([](RawOptions& raw) { raw.executor = "local"; }), HasSubstr("--executor=slurm"));
}

TEST_F(OptionsTest, RefusesWhatCannotWork) {
  RawOptions good;
  good.data_dir = folder_;
  good.worker_binary = "/bin/true";
  const auto refused = [&](const char* expected, auto change) {
    RawOptions raw = good;
    change(raw);
    const auto options = ResolveOptions(raw);
    EXPECT_FALSE(options.ok()) << expected;
    EXPECT_THAT(std::string(options.status().message()), HasSubstr(expected));
  };
  refused("--listen=0.0.0.0:7600", [](RawOptions& raw) { raw.listen = "0.0.0.0:7600"; });
  refused("--http_listen=0.0.0.0:1", [](RawOptions& raw) { raw.http_listen = "0.0.0.0:1"; });
  refused("--auth=tokens", [](RawOptions& raw) { raw.auth = "tokens"; });
  refused("--cores=-1", [](RawOptions& raw) { raw.cores = -1; });
  refused("--cores=100000", [](RawOptions& raw) { raw.cores = 100000; });
  refused("--retention_days", [](RawOptions& raw) { raw.retention_days = -1; });
  refused("--orphan_timeout", [](RawOptions& raw) { raw.orphan_timeout = absl::ZeroDuration(); });
  refused("no worker program", [](RawOptions& raw) { raw.worker_binary = "/no/such/file"; });
  // Without pinning cores are only places.
  RawOptions shared = good;
  shared.cores = 100;
  shared.pin = false;
  const auto options = ResolveOptions(shared);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->cores, SizeIs(100));
}

TEST_F(MachineTest, ReadsGroupsOfVersion2UpToTheRoot) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "3000000000\n");
  Write("/sys/fs/cgroup/a/memory.max", "max\n");
  const Machine machine = DetectMachine(folder_);
  EXPECT_DOUBLE_EQ(machine.cpu_quota, 2.5);
  EXPECT_EQ(machine.cgroup_memory_limit, 3000000000);
}

TEST_F(MachineTest, ReadsGroupsOfVersion1) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n6:memory:/docker/x\n1:name=systemd:/y\n");
  // In a container only the mount itself is there.
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000000\n");
  const Machine machine = DetectMachine(folder_);
  EXPECT_DOUBLE_EQ(machine.cpu_quota, 0.5);
  EXPECT_EQ(machine.cgroup_memory_limit, 1000000000);
}

TEST_F(MachineTest, NoLimitsAreNoLimits) {
  Write("/proc/self/cgroup", "5:cpu:/\n6:memory:/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const Machine machine = DetectMachine(folder_);
  EXPECT_EQ(machine.cpu_quota, 0);
  EXPECT_EQ(machine.cgroup_memory_limit, 0);
  EXPECT_EQ(DetectMachine(folder_ + "/empty").cpu_quota, 0);
}

TEST(MachineDefaultsTest, TakeTheTightestLimit) {
  Machine machine;
  machine.cores = {2, 3, 5, 7};
  machine.physical_memory = 1000;
  EXPECT_THAT(DefaultCores(machine), ElementsAre(2, 3, 5, 7));
  EXPECT_EQ(DefaultMemory(machine), 900);
  machine.cpu_quota = 2.9;
  machine.cgroup_memory_limit = 500;
  EXPECT_THAT(DefaultCores(machine), ElementsAre(2, 3));
  EXPECT_EQ(DefaultMemory(machine), 450);
  machine.cpu_quota = 0.3;
  EXPECT_THAT(DefaultCores(machine), ElementsAre(2));
}

TEST_F(DataDirLockTest, ASecondHolderLearnsTheFirstOnesPid) {
  {
    const auto first = DataDirLock::Acquire(folder_);
    ASSERT_TRUE(first.ok()) << first.status();
    const auto second = DataDirLock::Acquire(folder_);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.status().message()),
                HasSubstr(absl::StrCat("process ", getpid())));
  }
  EXPECT_TRUE(DataDirLock::Acquire(folder_).ok());
}

TEST_F(DataDirLockTest, MakesFoldersAndRefusesFiles) {
  EXPECT_TRUE(MakeFolder(folder_ + "/a/b/c", 0700).ok());
  struct stat info {};
  ASSERT_EQ(stat((folder_ + "/a/b/c").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_TRUE(MakeFolder(folder_ + "/a/b/c", 0700).ok());
  Write("/file", "");
  EXPECT_FALSE(MakeFolder(folder_ + "/file", 0700).ok());
  EXPECT_FALSE(MakeFolder(folder_ + "/file/below", 0700).ok());
}

TEST_F(WorkerSocketTest, LiesInAPrivateFolderOfTheDataFolder) {
  const auto path = PrepareWorkerSocket(folder_);
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, folder_ + "/run/worker.sock");
  struct stat info {};
  ASSERT_EQ(stat((folder_ + "/run").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(WorkerSocketTest, MovesWhenThePathIsTooLongAndIsFoundAgain) {
  const std::string data_dir = folder_ + "/" + std::string(100, 'd');
  const auto path = PrepareWorkerSocket(data_dir, folder_);
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_LE(path->size(), 107u);
  EXPECT_THAT(*path, HasSubstr(folder_ + "/normlab-"));
  EXPECT_EQ(*PrepareWorkerSocket(data_dir, folder_), *path);
  EXPECT_NE(*PrepareWorkerSocket(data_dir + "x", folder_), *path);
  struct stat info {};
  ASSERT_EQ(stat(std::filesystem::path(*path).parent_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(WorkerSocketTest, RefusesAFolderThatSomebodyElsePutThere) {
  const std::string data_dir = folder_ + "/" + std::string(100, 'd');
  const std::string folder =
      std::filesystem::path(*PrepareWorkerSocket(data_dir, folder_)).parent_path();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder_ + "/elsewhere");
  std::filesystem::create_directory_symlink(folder_ + "/elsewhere", folder);
  EXPECT_FALSE(PrepareWorkerSocket(data_dir, folder_).ok());
}

}  // namespace
}  // namespace normlab::server
