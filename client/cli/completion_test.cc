#include "client/cli/completion.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/cli/command_line_test_support.h"
#include "client/cli/command_tree.h"
#include "client/cli/manual_page.h"

namespace normlab::client {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class CompletionTest : public CommandLineTest {
 protected:
  CompletionTest() { BuildCommandTree(app_, options_, selected_); }

  // What is offered after `words`, by the program itself.
  std::vector<std::string> Offered(std::vector<std::string> words,
                                   const std::string& shell = "zsh") {
    words.insert(words.begin(), {"__complete", shell, "--server", server_.address()});
    const Outcome outcome = RunWith(words);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.err, "");
    std::vector<std::string> lines = Lines(outcome.out);
    directive_ = lines.front();
    std::vector<std::string> values;
    for (size_t i = 1; i < lines.size(); ++i) {
      values.push_back(lines[i].substr(0, lines[i].find('\t')));
    }
    return values;
  }

  GlobalOptions options_;
  Command selected_;
  CLI::App app_;
  std::string directive_;
};

TEST_F(CompletionTest, EveryCommandAndEveryOptionIsOffered) {
  for (const CLI::App* command :
       app_.get_subcommands([](const CLI::App* /*any*/) { return true; })) {
    EXPECT_THAT(Offered({""}), Contains(command->get_name()));
    const std::vector<std::string> offered = Offered({command->get_name(), "-"});
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        EXPECT_THAT(offered, Contains(absl::StrCat("--", name))) << command->get_name();
      }
    }
    EXPECT_THAT(offered, Contains("--token-file"));  // of every command
  }
}

TEST_F(CompletionTest, ValuesAndPlaces) {
  EXPECT_THAT(Offered({"list", "--output", ""}), ElementsAre("text", "json"));
  EXPECT_THAT(Offered({"list", "--output=j"}), ElementsAre("--output=json"));
  EXPECT_THAT(Offered({"list", "--output=j"}, "bash"), ElementsAre("json"));
  EXPECT_THAT(Offered({"list", "--output", "=", "j"}, "bash"), ElementsAre("json"));
  EXPECT_THAT(Offered({"metrics", "ok", "--format", "x"}), IsEmpty());
  EXPECT_THAT(Offered({"report", "jobs/ok", "-o", ""}), IsEmpty());
  EXPECT_EQ(directive_, ":files");
  EXPECT_THAT(Offered({"submit", ""}), IsEmpty());
  EXPECT_EQ(directive_, ":files");
  EXPECT_THAT(Offered({"experiment", "wa"}), ElementsAre("watch"));
  EXPECT_THAT(Offered({"study", "run", "land"}), ElementsAre("landscape"));
  EXPECT_THAT(Offered({"watch", "--", "--ou"}), IsEmpty());
  EXPECT_THAT(Offered({"nonsense", ""}), IsEmpty());
}

TEST_F(CompletionTest, WhatTheServerHas) {
  EXPECT_THAT(Offered({"watch", ""}), Contains("jobs/diverged"));
  EXPECT_THAT(Offered({"watch", "jobs/d"}), ElementsAre("jobs/diverged"));
  EXPECT_THAT(Offered({"watch", "jobs/ok", ""}), IsEmpty());  // it takes one job
  EXPECT_THAT(Offered({"delete", "jobs/ok", "jobs/d"}), ElementsAre("jobs/diverged"));
  EXPECT_THAT(Offered({"metrics", "jobs/ok", "--series", "test/"}),
              ElementsAre("test/accuracy", "test/loss"));
  EXPECT_THAT(Offered({"metrics", "jobs/ok", "--series", "train/loss,test/l"}),
              ElementsAre("train/loss,test/loss"));
}

TEST_F(CompletionTest, WithoutAServerThereAreStillCommands) {
  const Outcome outcome = RunWith({"__complete", "fish", "--server", "127.0.0.1:1", "watch", ""});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, ":none\n");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(CompletionTest, ScriptsAreForThreeShells) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_EQ(RunWith({"completion", shell}).out, CompletionScript(shell));
    EXPECT_THAT(CompletionScript(shell), HasSubstr(absl::StrCat("__complete ", shell)));
  }
  EXPECT_EQ(RunWith({"completion", "csh"}).exit_code, 2);
  EXPECT_THAT(RunWith({"--help"}).out, Not(HasSubstr("__complete")));
}

TEST_F(CompletionTest, EveryCommandHasAManualPageWithItsOptions) {
  const std::map<std::string, std::string> pages = ManualPages(app_);
  EXPECT_THAT(pages.at("normlab.1"), HasSubstr("\\-\\-token\\-file"));
  for (const CLI::App* command :
       app_.get_subcommands([](const CLI::App* /*any*/) { return true; })) {
    const std::string& page = pages.at(absl::StrCat("normlab-", command->get_name(), ".1"));
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        EXPECT_THAT(page, HasSubstr(absl::StrCat("\\-\\-",
                                                 absl::StrJoin(absl::StrSplit(name, '-'), "\\-"))));
      }
    }
  }
  const std::string server = ServerManualPage(
      "normlabd: serves.\n\nUsage: normlabd\n\nPlaces\n  --data_dir=\"\"\n      .hidden "
      "isn't\n\nOther\n"
      "  --help\n\nSIGTERM ends it.\n");
  EXPECT_THAT(server,
              HasSubstr(".SS Places\n.TP\n\\fB\\-\\-data_dir=\"\"\\fR\n\\&.hidden isn\\(aqt\n"));
  EXPECT_THAT(server, HasSubstr(".SH NOTES\nSIGTERM ends it.\n"));
}

}  // namespace
}  // namespace normlab::client
