#include "server/domain/design.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/random.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr int kMaxAxes = 16;
// On all axes together: as many as the largest design of one long axis and fifteen constant ones.
constexpr int kMaxValues = kMaxExperimentJobs + kMaxAxes;
// Of the specs of all jobs together, each of which is stored: some kilobytes for each of ten thousand.
constexpr int64_t kMaxDesignBytes = int64_t{32} << 20;
constexpr size_t kMaxPathBytes = 200;
// What is wrong beyond so many places is only counted.
constexpr size_t kMaxViolations = 100;

// Cells that there will be; more than the limit is told as limit + 1.
int64_t CountCells(const v1::Design& design) {
  if (design.has_random()) {
    return design.random().cells();
  }
  if (!design.cells().empty()) {
    return design.cells_size();
  }
  int64_t cells = 1;
  for (const v1::Axis& axis : design.axes()) {
    cells = std::min<int64_t>(cells * axis.values_size(), kMaxExperimentJobs + 1);
  }
  return cells;
}

class Expander {
 public:
  Expander(const v1::JobSpec& base, const v1::Design& design) : base_(base), design_(design) {}

  ExpandedDesign Run() {
    // Numbers are multiplied before anything is looked at one by one, so that a request of some
    // bytes never costs more than those of an honest one.
    if (CheckSize()) {
      CheckSeeds();
      CheckAxes();
      CheckRandom();
      CheckCells();
      if (result_.violations.empty()) {
        MakeCells();
      }
    }
    if (more_violations_ > 0) {
      result_.violations.push_back(
          {"design", absl::StrCat("has ", more_violations_,
                                  " more problems of these kinds; correct the first ones")});
    }
    if (!result_.violations.empty()) {
      result_.cells.clear();
    }
    return std::move(result_);
  }

 private:
  using Values = std::vector<std::pair<std::string, std::string>>;

  void Fail(std::string field, std::string description) {
    if (result_.violations.size() < kMaxViolations) {
      result_.violations.push_back({std::move(field), std::move(description)});
    } else {
      ++more_violations_;
    }
  }

  // Whether there is so little of everything that it can be looked at.
  bool CheckSize() {
    const int seeds = std::max(design_.seeds_size(), 1);
    const int64_t cells = CountCells(design_);
    if (cells * seeds > kMaxExperimentJobs) {
      Fail("design", absl::StrCat("has ", cells > kMaxExperimentJobs ? "more than " : "",
                                  std::min<int64_t>(cells, kMaxExperimentJobs), " cells and ",
                                  seeds, seeds == 1 ? " seed" : " seeds",
                                  ", but an experiment has at most ", kMaxExperimentJobs,
                                  " jobs; use fewer values or seeds, or draw cells at random"));
    }
    if (design_.seeds_size() > kMaxExperimentJobs) {
      Fail("design.seeds", absl::StrCat("has ", design_.seeds_size(), " seeds, but at most ",
                                        kMaxExperimentJobs, " are allowed; use fewer"));
    }
    if (design_.axes_size() > kMaxAxes) {
      Fail("design.axes", absl::StrCat("has ", design_.axes_size(), " axes, but at most ", kMaxAxes,
                                       " are allowed; split the experiment"));
      return false;
    }
    CheckTotals(cells);
    return result_.violations.empty();
  }

  void CheckTotals(int64_t cells) {
    int64_t values = 0;
    for (int i = 0; i < design_.axes_size(); ++i) {
      values += design_.axes(i).values_size();
      if (design_.axes(i).field().size() > kMaxPathBytes) {
        Fail(absl::StrCat("design.axes[", i, "].field"),
             absl::StrCat("has ", design_.axes(i).field().size(),
                          " bytes, but no field of a spec has more than ", kMaxPathBytes,
                          "; give a path such as optimizer.sgd.learning_rate"));
      }
    }
    if (values > kMaxValues) {
      Fail("design.axes", absl::StrCat("has ", values, " values on all axes, but at most ",
                                       kMaxValues, " are allowed; use fewer, or a range"));
    }
    const int64_t seeds = std::max(design_.seeds_size(), 1);
    // What a cell sets comes on top of the base spec; the largest possible is enough here.
    int64_t set_bytes = 0;
    for (const v1::Axis& axis : design_.axes()) {
      size_t longest = 0;
      for (const std::string& value : axis.values()) {
        longest = std::max(longest, value.size());
      }
      set_bytes += static_cast<int64_t>(longest);
    }
    int64_t bytes = cells <= kMaxExperimentJobs
                        ? cells * (static_cast<int64_t>(base_.ByteSizeLong()) + set_bytes)
                        : 0;  // refused already
    for (int i = 0; i < design_.cells_size() && cells <= kMaxExperimentJobs; ++i) {
      bytes += static_cast<int64_t>(design_.cells(i).ByteSizeLong());
      if (design_.cells(i).values_size() > kMaxAxes) {
        Fail(absl::StrCat("design.cells[", i, "]"),
             absl::StrCat("sets ", design_.cells(i).values_size(), " fields, but at most ",
                          kMaxAxes, " are allowed; put the others into the base spec"));
      }
    }
    // Not more seeds than jobs, or it is refused already: no overflow.
    bytes *= std::min<int64_t>(seeds, kMaxExperimentJobs);
    if (bytes > kMaxDesignBytes) {
      Fail("design",
           absl::StrCat("makes specs of ", bytes >> 20, " MiB in all (", cells,
                        cells == 1 ? " cell by " : " cells by ", seeds,
                        seeds == 1 ? " seed" : " seeds", "), but at most ", kMaxDesignBytes >> 20,
                        " MiB are allowed; use a smaller base spec, fewer cells or fewer "
                        "seeds, or several experiments"));
    }
  }

  void CheckSeeds() {
    result_.seeds.assign(design_.seeds().begin(), design_.seeds().end());
    if (result_.seeds.empty()) {
      result_.seeds.push_back(base_.seed());
    }
    std::set<uint32_t> distinct;
    for (int i = 0; i < design_.seeds_size(); ++i) {
      if (!distinct.insert(design_.seeds(i)).second) {
        Fail(absl::StrCat("design.seeds[", i, "]"),
             absl::StrCat("is ", design_.seeds(i),
                          " again; equal seeds give equal runs, so give each once"));
      }
    }
  }

  void CheckAxes() {
    std::map<std::string, int> fields;
    // What the axes before this one choose first.
    v1::JobSpec chosen = base_;
    for (int i = 0; i < design_.axes_size(); ++i) {
      const v1::Axis& axis = design_.axes(i);
      const std::string path = absl::StrCat("design.axes[", i, "]");
      if (axis.field() == "seed") {
        Fail(path + ".field",
             "is seed; give the seeds in design.seeds, so that they are averaged over");
      }
      const auto [first, added] = fields.emplace(axis.field(), i);
      if (!added) {
        Fail(path + ".field", absl::StrCat("is ", axis.field(), ", as that of axis ", first->second,
                                           "; merge the two"));
      }
      CheckValues(axis, chosen, path);
      if (!axis.values().empty()) {
        SetField(axis.field(), axis.values(0), chosen).IgnoreError();
      }
    }
  }

  // `chosen`: the base with the first value of every axis before this one.
  void CheckValues(const v1::Axis& axis, const v1::JobSpec& chosen, const std::string& path) {
    if (axis.has_range()) {
      CheckRange(axis.range(), path + ".range");
      if (!axis.values().empty()) {
        Fail(path + ".values", "is given beside a range; keep one of the two");
      }
      if (!design_.has_random()) {
        Fail(path + ".range", "needs a random design; list values instead, or set design.random");
      }
    } else if (axis.values().empty()) {
      Fail(path + ".values", "is empty; give at least one value");
    }
    std::set<std::string> distinct;
    for (int n = 0; n < axis.values_size(); ++n) {
      const std::string field = absl::StrCat(path, ".values[", n, "]");
      if (!distinct.insert(axis.values(n)).second) {
        Fail(field,
             absl::StrCat("is ", QuotedForMessage(axis.values(n)), " again; give each value once"));
      }
      // What another value of an earlier axis makes of it is seen when the cells are made.
      v1::JobSpec spec = chosen;
      const absl::Status status = SetField(axis.field(), axis.values(n), spec);
      if (!status.ok()) {
        // A wrong path is wrong for every value, and told once.
        const bool of_field = !absl::IsOutOfRange(status);
        Fail(of_field ? path + ".field" : field, std::string(status.message()));
        if (of_field) {
          return;
        }
      }
    }
  }

  void CheckRange(const v1::Range& range, const std::string& path) {
    if (!std::isfinite(range.minimum()) || !std::isfinite(range.maximum()) ||
        range.minimum() >= range.maximum()) {
      Fail(path, absl::StrFormat("goes from %g to %g; give a smaller minimum than maximum",
                                 range.minimum(), range.maximum()));
    } else if (range.logarithmic() && range.minimum() <= 0) {
      Fail(path + ".minimum",
           absl::StrFormat("is %g, but a logarithmic range is above 0; raise it", range.minimum()));
    }
  }

  void CheckRandom() {
    if (!design_.has_random()) {
      return;
    }
    if (design_.random().cells() < 1) {
      Fail("design.random.cells", "must be at least 1; give how many cells to draw");
    }
    if (design_.axes().empty()) {
      Fail("design.axes", "is empty; give the fields that the random cells differ in");
    }
  }

  void CheckCells() {
    if (!design_.cells().empty() && (!design_.axes().empty() || design_.has_random())) {
      Fail("design.cells", "is given beside axes; keep one of the two");
    }
  }

  void MakeCells() {
    if (design_.has_random()) {
      for (int i = 0; i < design_.random().cells(); ++i) {
        Add(Draw(i), absl::StrCat("design (random cell ", i, ")"));
      }
    } else if (!design_.cells().empty()) {
      for (int i = 0; i < design_.cells_size(); ++i) {
        const std::map<std::string, std::string> sorted(design_.cells(i).values().begin(),
                                                        design_.cells(i).values().end());
        Add(Values(sorted.begin(), sorted.end()), absl::StrCat("design.cells[", i, "]"));
      }
    } else {
      const int64_t cells = CountCells(design_);
      for (int64_t i = 0; i < cells; ++i) {
        Add(Combination(i), "design.axes");
      }
    }
  }

  Values Combination(int64_t index) const {
    Values values(static_cast<size_t>(design_.axes_size()));
    for (int a = design_.axes_size() - 1; a >= 0; --a) {
      const v1::Axis& axis = design_.axes(a);
      values[static_cast<size_t>(a)] = {axis.field(),
                                        axis.values(static_cast<int>(index % axis.values_size()))};
      index /= axis.values_size();
    }
    return values;
  }

  Values Draw(int index) const {
    const common::RandomStream random(design_.random().seed(), "experiment");
    Values values;
    for (int a = 0; a < design_.axes_size(); ++a) {
      const v1::Axis& axis = design_.axes(a);
      const double u = random.Uniform(static_cast<uint64_t>(index), static_cast<uint64_t>(a));
      values.emplace_back(axis.field(),
                          axis.has_range() ? InRange(axis.range(), u)
                                           : axis.values(static_cast<int>(u * axis.values_size())));
    }
    return values;
  }

  static std::string InRange(const v1::Range& range, double u) {
    const double value = range.logarithmic()
                             ? range.minimum() * std::pow(range.maximum() / range.minimum(), u)
                             : range.minimum() + (range.maximum() - range.minimum()) * u;
    return range.integer() ? absl::StrCat(static_cast<int64_t>(std::llround(value)))
                           : absl::StrFormat("%.6g", value);
  }

  void Add(Values values, const std::string& where) {
    DesignCell cell = {.values = std::move(values), .spec = base_};
    for (const auto& [field, value] : cell.values) {
      const absl::Status status = SetField(field, value, cell.spec);
      if (!status.ok()) {
        Fail(where, absl::StrCat(field, " = ", QuotedForMessage(value), ": ", status.message()));
        return;
      }
    }
    result_.cells.push_back(std::move(cell));
  }

  const v1::JobSpec& base_;
  const v1::Design& design_;
  ExpandedDesign result_;
  int64_t more_violations_ = 0;
};

}  // namespace

ExpandedDesign ExpandDesign(const v1::JobSpec& base, const v1::Design& design) {
  return Expander(base, design).Run();
}

}  // namespace normlab::server
