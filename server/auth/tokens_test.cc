// The tokens file: what is taken, what is refused, and how a change is noticed.
#include <stdlib.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "server/auth/token_store.h"
#include "server/auth/tokens_file.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Line(const std::string& name,
                 const std::string& role,
                 const std::string& owner,
                 const std::string& token) {
  return absl::StrCat("{\"name\": \"", name, "\", \"role\": \"", role, "\", \"owner\": \"", owner,
                      "\", \"sha256\": \"", common::Sha256Hex(token), "\"}\n");
}

std::string WhyNot(const std::string& text) {
  return std::string(ParseTokens(text).status().message());
}

TEST(TokensFileTest, TakesLinesAndComments) {
  const auto entries = ParseTokens("# people\n\n" + Line("ann", "admin", "ops", "t1") + "   " +
                                   Line("ci-2", "viewer", "a.b+c@d_e", "t2") + "\r\n");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].caller.role, v1::Caller::ADMIN);
  EXPECT_EQ((*entries)[0].sha256, common::Sha256Bytes("t1"));
  EXPECT_EQ((*entries)[1].caller.owner, "a.b+c@d_e");
  EXPECT_TRUE(ParseTokens("").ok());
}

TEST(TokensFileTest, SaysWhichLineIsWrongAndNeverRepeatsIt) {
  const std::string good = Line("ann", "admin", "ops", "t1");
  for (const auto& [text, problem] : std::vector<std::pair<std::string, std::string>>{
           {"hello", "JSON object"},
           {"[]", "JSON object"},
           {"{\"name\": \"x\"", "JSON object"},
           {std::string(3000, '['), "JSON object"},
           {std::string(5000, ' ') + "x" + std::string(5000, 'y'), "4096 bytes"},
           {"{\"name\": \"b\", \"role\": \"viewer\", \"owner\": \"o\"}", "sha256"},
           {"{\"name\": 7, \"role\": \"viewer\", \"owner\": \"o\", \"sha256\": \"\"}", "name"},
           {Line("b", "root", "o", "t2"), "role"},
           {Line("b c", "viewer", "o", "t2"), "name"},
           {Line("b", "viewer", "", "t2"), "owner"},
           {Line("b", "viewer", "o\\n", "t2"), "owner"},
           {Line(std::string(65, 'b'), "viewer", "o", "t2"), "name"},
           {Line("ann", "viewer", "o", "t2"), "repeats the name"},
           {Line("b", "viewer", "o", "t1"), "repeats the sha256"},
           {"{\"name\":\"b\",\"name\":\"c\",\"role\":\"viewer\",\"owner\":\"o\",\"sha256\":\"\"}",
            "twice"},
           {"{\"name\":\"b\",\"role\":\"viewer\",\"owner\":\"o\",\"sha256\":\"secret\"}", "sha256"},
           {"{\"name\":\"b\",\"role\":\"viewer\",\"owner\":\"o\",\"sha256\":\"\",\"x\":1}",
            "other than"}}) {
    const std::string message = WhyNot(good + text + "\n");
    EXPECT_THAT(message, HasSubstr("line 2 ")) << text;
    EXPECT_THAT(message, HasSubstr(problem)) << text;
    EXPECT_THAT(message, HasSubstr("normlab token new"));
    EXPECT_THAT(message, Not(HasSubstr("secret")));
  }
}

class TokenStoreTest : public ::testing::Test {
 protected:
  TokenStoreTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/tokens.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/tokens";
  }
  ~TokenStoreTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& text, int mode = 0600) {
    // The file appears with its mode: a reader is quick.
    const mode_t mask = umask(0);
    const absl::Status written = common::WriteFileAtomically(path_, text, mode);
    umask(mask);
    ASSERT_TRUE(written.ok()) << written;
  }
  absl::StatusOr<std::unique_ptr<TokenStore>> Open() {
    return TokenStore::Open({.path = path_,
                             .poll_interval = absl::Milliseconds(1),
                             .on_read = [this](bool ok) { (ok ? good_ : bad_).fetch_add(1); }});
  }
  // Waits until the file was read again so often with this result.
  static void WaitFor(const std::atomic<int>& count, int wanted) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);  // only a bug waits so long
    while (count.load() < wanted && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    ASSERT_GE(count.load(), wanted);
  }

  std::string folder_;
  std::string path_;
  std::atomic<int> good_ = 0;
  std::atomic<int> bad_ = 0;
};

TEST_F(TokenStoreTest, FindsWhomATokenStandsFor) {
  Write(Line("ann", "admin", "ops", "t1") + Line("bob", "viewer", "vision", "t2"));
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  const auto bob = (*store)->Find("t2");
  ASSERT_TRUE(bob.has_value());
  EXPECT_EQ(bob->name, "bob");
  EXPECT_EQ(bob->owner, "vision");
  EXPECT_EQ(bob->role, v1::Caller::VIEWER);
  for (const char* wrong : {"", "t", "t3", "t22", "T2"}) {
    EXPECT_FALSE((*store)->Find(wrong).has_value()) << wrong;
  }
  // The hash that the file shows is not the token.
  EXPECT_FALSE((*store)->Find(common::Sha256Hex("t2")).has_value());
  EXPECT_FALSE((*store)->Find(common::Sha256Bytes("t2")).has_value());
}

TEST_F(TokenStoreTest, AChangedFileIsInForceAndAWrongOneIsNot) {
  Write(Line("ann", "admin", "ops", "t1"));
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  const Caller ann = *(*store)->Find("t1");
  Write("nonsense\n");
  WaitFor(bad_, 1);
  EXPECT_TRUE((*store)->Find("t1").has_value());
  Write(Line("bob", "viewer", "vision", "t2"), 0666);
  WaitFor(bad_, 2);
  EXPECT_FALSE((*store)->Find("t2").has_value()) << "a file that others may write to was believed";
  EXPECT_EQ((*store)->generation(), 0);
  const int good = good_.load();
  Write(Line("bob", "viewer", "vision", "t2"));
  WaitFor(good_, good + 1);
  EXPECT_FALSE((*store)->Find("t1").has_value());
  EXPECT_TRUE((*store)->Find("t2").has_value());
  EXPECT_FALSE((*store)->StillValid(ann));
  EXPECT_TRUE((*store)->StillValid(*(*store)->Find("t2")));
  EXPECT_GE((*store)->generation(), 1);
  // A token whose role changed does not stand for the same caller.
  const Caller bob = *(*store)->Find("t2");
  Write(Line("bob", "submitter", "vision", "t2"));
  WaitFor(good_, good + 2);
  EXPECT_FALSE((*store)->StillValid(bob));
  // Nor does one that was replaced, name, role and owner staying the same: the old token may be the
  // one that somebody found.
  const Caller before = *(*store)->Find("t2");
  Write(Line("bob", "submitter", "vision", "t3"));
  WaitFor(good_, good + 3);
  EXPECT_FALSE((*store)->StillValid(before));
  EXPECT_TRUE((*store)->StillValid(*(*store)->Find("t3")));
}

TEST_F(TokenStoreTest, AServerDoesNotStartWithoutTokens) {
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("--tokens_file"));
  Write("# nobody\n");
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("normlab token new"));
  Write("nonsense\n");
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr(path_));
  Write(Line("ann", "admin", "ops", "t1"), 0620);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("chmod"));
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(std::string(Open().status().message()), HasSubstr("regular file"));
}

TEST(ConstantTimeEqualTest, ComparesEveryByte) {
  EXPECT_TRUE(ConstantTimeEqual("", ""));
  EXPECT_TRUE(ConstantTimeEqual("abc", "abc"));
  EXPECT_FALSE(ConstantTimeEqual("abc", "abd"));
  EXPECT_FALSE(ConstantTimeEqual("xbc", "abc"));
  EXPECT_FALSE(ConstantTimeEqual("abc", "abcd"));
}

}  // namespace
}  // namespace normlab::server
