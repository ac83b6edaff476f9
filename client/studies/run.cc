#include "client/studies/run.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace normlab::client::studies {

const Points* SeedRun::Find(absl::string_view name) const {
  const auto found = series.find(std::string(name));
  return found == series.end() ? nullptr : &found->second;
}

std::string CellRun::Name() const {
  return absl::StrJoin(levels, ", ");
}

const CellRun& PartRun::Cell(absl::Span<const absl::string_view> names) const {
  const auto found = std::find_if(cells.begin(), cells.end(), [names](const CellRun& cell) {
    return std::equal(cell.levels.begin(), cell.levels.end(), names.begin(), names.end());
  });
  if (found == cells.end()) {
    std::
        abort();  // an analysis that does not fit its study's data: a bug that every test of the study meets
  }
  return *found;
}

const std::vector<std::string>& PartRun::LevelsOf(absl::string_view axis) const {
  const auto found = std::find(axes.begin(), axes.end(), axis);
  if (found == axes.end()) {
    std::abort();  // as above
  }
  return levels[static_cast<size_t>(found - axes.begin())];
}

const PartRun* Run::Find(absl::string_view part) const {
  const auto found =
      std::find_if(parts.begin(), parts.end(), [part](const PartRun& p) { return p.name == part; });
  return found == parts.end() ? nullptr : &*found;
}

const PartRun& Run::Get(absl::string_view part) const {
  const PartRun* found = Find(part);
  if (found == nullptr) {
    std::abort();  // as above
  }
  return *found;
}

std::string Run::SeedsText() const {
  std::set<size_t> counts;
  for (const Part& part : plan.parts) {
    counts.insert(part.seeds.size());
  }
  return counts.size() < 2 ? absl::StrCat(counts.empty() ? 0 : *counts.begin())
                           : absl::StrCat(*counts.begin(), " to ", *counts.rbegin());
}

Run EmptyRun(const Plan& plan) {
  Run run{.plan = plan, .create_time = absl::UnixEpoch(), .end_time = absl::InfiniteFuture()};
  for (const Part& part : plan.parts) {
    PartRun to{.name = part.name};
    for (const StudyAxis& axis : part.axes) {
      to.axes.push_back(axis.name);
      to.levels.emplace_back();
      for (const Level& level : axis.levels) {
        to.levels.back().push_back(level.name);
      }
    }
    for (int index = 0; index < part.cells(); ++index) {
      CellRun cell;
      for (const Level* level : LevelsOfCell(part, index)) {
        cell.levels.push_back(level->name);
      }
      for (const uint32_t seed : part.seeds) {
        SeedRun job{.seed = seed};
        job.job.set_state(v1::Job::QUEUED);
        cell.seeds.push_back(std::move(job));
      }
      to.cells.push_back(std::move(cell));
    }
    run.parts.push_back(std::move(to));
  }
  return run;
}

}  // namespace normlab::client::studies
