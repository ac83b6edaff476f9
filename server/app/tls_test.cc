// TLS on the public listener, with real certificates made by deploy/make-certificates.
#include "server/app/tls.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/security/credentials.h>

#include "common/atomic_file.h"
#include "common/subprocess.h"
#include "server/app/testing/server_test_fixture.h"
#include "server/monitor/testing.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

class TlsTest : public ServerTest {
 protected:
  // A folder of certificates, of an authority of its own.
  std::string MakeCertificates(const std::string& name) {
    const std::string folder = folder_ + "/" + name;
    const auto process =
        common::Subprocess::Start({.argv = {NORMLAB_MAKE_CERTIFICATES, folder},
                                   .environment = {absl::StrCat("PATH=", getenv("PATH"))},
                                   .output_path = folder_ + "/openssl.log"});
    EXPECT_TRUE(process.ok()) << process.status();
    EXPECT_TRUE(Eventually([&] { return process->HasEnded(); }));
    EXPECT_TRUE(std::filesystem::exists(folder + "/client.pem"))
        << common::ReadFile(folder_ + "/openssl.log").value_or("");
    return folder;
  }

  static TlsFiles FilesOf(const std::string& folder) {
    return {.certificate = folder + "/server.pem", .key = folder + "/server.key"};
  }

  static std::string Read(const std::string& path) { return common::ReadFile(path).value_or(""); }

  // A connection of its own: certificates are looked at when one is made.
  grpc::Status CallWith(const grpc::SslCredentialsOptions& ssl) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::Jobs::NewStub(
        grpc::CreateCustomChannel(server_->grpc_address(), grpc::SslCredentials(ssl), arguments));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    v1::ListJobsResponse response;
    return stub->ListJobs(&context, {}, &response);
  }
  static grpc::SslCredentialsOptions Trusting(const std::string& folder,
                                              const std::string& client_folder = "") {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = Read(folder + "/ca.pem");
    if (!client_folder.empty()) {
      ssl.pem_cert_chain = Read(client_folder + "/client.pem");
      ssl.pem_private_key = Read(client_folder + "/client.key");
    }
    return ssl;
  }
};

TEST_F(TlsTest, ARenewedCertificateIsServedWithoutARestart) {
  const std::string old_certificates = MakeCertificates("old");
  const std::string new_certificates = MakeCertificates("new");
  const std::string current = folder_ + "/current";
  std::filesystem::create_directory_symlink(old_certificates, current);
  options_.tls = FilesOf(current);
  ASSERT_TRUE(CheckTlsFiles(options_.tls).ok());
  StartServer();
  // A connection that stays, and a client without TLS, which gets nowhere.
  const auto stay = v1::Jobs::NewStub(
      grpc::CreateChannel(server_->grpc_address(), grpc::SslCredentials(Trusting(current))));
  const auto call = [](v1::Jobs::Stub& stub) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    v1::ListJobsResponse response;
    return stub.ListJobs(&context, {}, &response);
  };
  EXPECT_TRUE(call(*stay).ok());
  EXPECT_EQ(call(*jobs_).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(CallWith(Trusting(old_certificates)).ok());
  EXPECT_EQ(CallWith(Trusting(new_certificates)).error_code(), grpc::StatusCode::UNAVAILABLE);

  std::filesystem::create_directory_symlink(new_certificates, current + ".next");
  std::filesystem::rename(current + ".next", current);
  EXPECT_TRUE(Eventually([&] { return CallWith(Trusting(new_certificates)).ok(); }));
  EXPECT_EQ(CallWith(Trusting(old_certificates)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(call(*stay).ok()) << "a connection that is open does not care";
}

TEST_F(TlsTest, MonitoringSaysWhenTheCertificateEndsAlsoOfARenewedOne) {
  const std::string certificates = MakeCertificates("here");
  options_.tls = FilesOf(certificates);
  StartServer();
  const absl::StatusOr<TlsTexts> texts = ReadTlsFiles(options_.tls);
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_GT(texts->end, absl::Now() + absl::Hours(24));
  const auto shown = [this](const char* name) { return std::stod(Sample(Http("/metrics"), name)); };
  EXPECT_EQ(shown("normlab_tls_certificate_not_after_seconds"),
            static_cast<double>(absl::ToUnixSeconds(texts->end)));
  EXPECT_EQ(shown("normlab_tls_files_healthy"), 1);
}

TEST_F(TlsTest, FilesThatAreWrongInTheMiddleOfARenewalChangeNothing) {
  const std::string old_certificates = MakeCertificates("old");
  const std::string new_certificates = MakeCertificates("new");
  const std::string here = folder_ + "/here";
  std::filesystem::copy(old_certificates, here);
  options_.tls = FilesOf(here);
  StartServer();
  const auto healthy = [this] { return Sample(Http("/metrics"), "normlab_tls_files_healthy"); };
  const auto replace = [&](const char* name) {
    const auto text = common::ReadFile(new_certificates + "/" + name);
    ASSERT_TRUE(common::WriteFileAtomically(here + "/" + name, *text, 0600).ok());
  };
  // The certificate has come, its key has not.
  replace("server.pem");
  EXPECT_TRUE(Eventually([&] { return healthy() == "0"; }));
  // Longer than gRPC's own look at what it is given takes.
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(CallWith(Trusting(old_certificates)).ok()) << i;
    absl::SleepFor(absl::Milliseconds(700));
  }
  ASSERT_TRUE(common::WriteFileAtomically(here + "/server.key", "no key at all", 0600).ok());
  EXPECT_TRUE(CallWith(Trusting(old_certificates)).ok());
  replace("server.key");
  EXPECT_TRUE(Eventually([&] { return healthy() == "1"; }));
  EXPECT_TRUE(Eventually([&] { return CallWith(Trusting(new_certificates)).ok(); }));
}

TEST_F(TlsTest, WithAClientAuthorityOnlyItsClientsGetThrough) {
  const std::string ours = MakeCertificates("ours");
  const std::string theirs = MakeCertificates("theirs");
  options_.tls = FilesOf(ours);
  options_.tls.client_ca = ours + "/ca.pem";
  StartServer();
  EXPECT_TRUE(CallWith(Trusting(ours, ours)).ok());
  EXPECT_EQ(CallWith(Trusting(ours)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(CallWith(Trusting(ours, theirs)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, FilesThatCannotServeAreRefusedAtTheStart) {
  const std::string ours = MakeCertificates("ours");
  const std::string theirs = MakeCertificates("theirs");
  const auto why = [](const TlsFiles& files) {
    return std::string(CheckTlsFiles(files).message());
  };
  TlsFiles good = FilesOf(ours);
  good.client_ca = ours + "/ca.pem";
  EXPECT_EQ(why(good), "");
  EXPECT_EQ(why({}), "");
  EXPECT_THAT(why({.certificate = good.certificate}), HasSubstr("--tls_key"));
  EXPECT_THAT(why({.client_ca = good.client_ca}), HasSubstr("--tls_cert"));
  EXPECT_THAT(why({.certificate = good.certificate, .key = theirs + "/server.key"}),
              HasSubstr("is not that of the certificate"));
  EXPECT_THAT(why({.certificate = ours + "/none.pem", .key = good.key}), HasSubstr("none.pem"));
  EXPECT_THAT(why({.certificate = good.key, .key = good.key}), HasSubstr("PEM"));
  EXPECT_THAT(why({.certificate = good.certificate, .key = good.certificate}), HasSubstr("PEM"));
  ASSERT_EQ(chmod(good.key.c_str(), 0644), 0);
  EXPECT_THAT(why(good), HasSubstr("chmod"));
}

}  // namespace
}  // namespace normlab::server
