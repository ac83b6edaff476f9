#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/store/experiment_rows.h"
#include "server/store/page_token.h"

namespace normlab::server {
namespace {

// Counting the jobs of an experiment of ten thousand takes a millisecond.
constexpr absl::Duration kMaxExaminingTime = absl::Milliseconds(20);
constexpr size_t kMaxPageBytes = size_t{4} << 20;

std::string ListHash(const std::optional<std::string>& owner) {
  return common::Sha256Hex(owner.has_value() ? absl::StrCat("experiments of ", *owner)
                                             : "all experiments")
      .substr(0, 16);
}

std::vector<ExperimentHead> ReadHeads(Connection& connection,
                                      const std::optional<std::string>& owner,
                                      const PagePosition& start,
                                      int limit) {
  constexpr const char* kColumns =
      "SELECT key, id, owner, create_time_us, first_job_key, jobs FROM experiments ";
  constexpr const char* kRange =
      " create_time_us <= ? AND (create_time_us < ? OR key < ?) "
      "ORDER BY create_time_us DESC, key DESC LIMIT ?";
  const std::string sql =
      owner.has_value()
          ? absl::StrCat(kColumns, "INDEXED BY experiments_by_owner WHERE owner = ? AND", kRange)
          : absl::StrCat(kColumns, "INDEXED BY experiments_by_time WHERE", kRange);
  Query query(connection, sql);
  int parameter = 0;
  if (owner.has_value()) {
    query.Bind(++parameter, *owner);
  }
  query.Bind(++parameter, start.create_time_us);
  query.Bind(++parameter, start.create_time_us);
  query.Bind(++parameter, start.key);
  query.Bind(++parameter, limit);
  std::vector<ExperimentHead> heads;
  while (query.Step()) {
    heads.push_back(
        {query.Int(0), query.Text(1), query.Text(2), query.Int(3), query.Int(4), query.Int(5)});
  }
  return heads;
}

}  // namespace

absl::StatusOr<ExperimentPage> ListExperimentPage(Connection& connection,
                                                  const std::optional<std::string>& owner,
                                                  int page_size,
                                                  const std::string& page_token) {
  const std::string list = ListHash(owner);
  NORMLAB_ASSIGN_OR_RETURN(const PagePosition start, ParsePageToken(page_token, list));
  const std::vector<ExperimentHead> heads = ReadHeads(connection, owner, start, page_size + 1);
  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + kMaxExaminingTime;
  ExperimentPage page;
  size_t bytes = 0;
  for (size_t i = 0; i < heads.size(); ++i) {
    const bool enough = i == static_cast<size_t>(page_size) || bytes > kMaxPageBytes;
    if (i > 0 && (enough || clock.Monotonic() > deadline)) {
      page.next_page_token = MakePageToken({heads[i - 1].create_time_us, heads[i - 1].key}, list);
      break;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        StoredExperiment stored,
        ReadExperiment(connection, heads[i], ExperimentStore::Parts::kWithoutCells));
    bytes += stored.experiment.ByteSizeLong();
    page.experiments.push_back(std::move(stored.experiment));
  }
  return page;
}

}  // namespace normlab::server
