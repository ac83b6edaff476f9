#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/lib/number_format.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using normlab::v1::ListJobsResponse;

constexpr int kLargestPage = 1000;

struct ListOptions {
  std::string filter;
  std::string page_token;
  int page_size = 0;
  bool all = false;
};

// Prints pages as they come: with --all there may be a million jobs.
class ListPrinter {
 public:
  explicit ListPrinter(CommandContext& context) : context_(context) {}

  void Page(const ListJobsResponse& page) {
    Output& out = context_.out();
    if (!context_.json()) {
      out.Write(JobTable(out, {page.jobs().begin(), page.jobs().end()}, pages_ == 0));
    } else if (pages_ == 0) {
      out.Write("{\"jobs\":[");
    }
    ++pages_;
    for (const Job& job : page.jobs()) {
      if (context_.json()) {
        out.Write(absl::StrCat(jobs_ == 0 ? "\n" : ",\n", ToJson(job, false)));
      }
      ++jobs_;
    }
  }

  void End(const std::string& next_page_token) {
    Output& out = context_.out();
    if (context_.json()) {
      out.Write(
          next_page_token.empty()
              ? "\n]}\n"
              : absl::StrCat("\n],\"nextPageToken\":", FormatJsonString(next_page_token), "}\n"));
    } else if (!next_page_token.empty()) {
      out.Flush();
      context_.err().Write(absl::StrCat("There are more: --all, or --page-token ",
                                        Printable(next_page_token), "\n"));
    }
  }

 private:
  CommandContext& context_;
  int64_t pages_ = 0;
  int64_t jobs_ = 0;
};

int List(const ListOptions& options, CommandContext& context) {
  Client client = context.MakeClient();
  normlab::v1::ListJobsRequest request;
  request.set_filter(options.filter);
  request.set_page_token(options.page_token);
  request.set_page_size(options.all && options.page_size == 0 ? kLargestPage : options.page_size);
  ListPrinter printer(context);
  while (true) {
    const absl::StatusOr<ListJobsResponse> page = client.ListJobs(request);
    if (!page.ok()) {
      return context.Fail(page.status());
    }
    // A filtered page may be short or empty and still have successors.
    const bool is_last = page->next_page_token().empty() || !options.all;
    printer.Page(*page);
    if (is_last) {
      printer.End(page->next_page_token());
      return kExitSucceeded;
    }
    if (!context.out().status().ok()) {
      return kExitBrokenPipe;
    }
    request.set_page_token(page->next_page_token());
  }
}

}  // namespace

void AddListCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<ListOptions>();
  CLI::App& command = *app.add_subcommand("list", "List jobs, the newest first");
  command.add_option("--filter", options->filter,
                     "Terms joined by AND: state=RUNNING, labels.KEY=VALUE, owner=NAME, "
                     "experiment=experiments/ID, create_time>=2026-01-31T00:00:00Z");
  command
      .add_option("--page-size", options->page_size, "Jobs at a time; the server's default is 50")
      ->type_name("N")
      ->check(CLI::Range(1, kLargestPage));
  command.add_option("--page-token", options->page_token, "Go on where an earlier list stopped");
  command.add_flag("--all", options->all, "All pages");
  command.footer(R"(
With --output json it prints one ListJobsResponse, a job to a line.

Examples:
  normlab list
  normlab list --filter 'state=RUNNING AND labels.study=explosion'
  normlab list --all --output json | jq -r '.jobs[].name')");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return List(*options, context); };
  });
}

}  // namespace normlab::client
