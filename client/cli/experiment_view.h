#pragma once

#include <string>
#include <vector>

#include "client/cli/output.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// Experiments for people. All functions are thread-safe; texts of other people are made harmless for
// terminals.

// The fields in which the cells differ, in the order of the axes (cells listed one by one: of their
// first appearance, sorted), and how to head a column with them: the last name of the path where that
// tells them apart.
struct DesignFields {
  std::vector<std::string> paths;
  std::vector<std::string> headings;
};
DesignFields FieldsOf(const normlab::v1::Experiment& experiment);

// A cell's value of each field; "-" where it has none.
std::vector<std::string> CellValues(const DesignFields& fields,
                                    const google::protobuf::Map<std::string, std::string>& values);

// "5 of 12 ended: 4 succeeded, 1 diverged; 2 running, 5 queued".
std::string FormatCounts(const Output& out, const normlab::v1::JobCounts& counts);
// Jobs that there are, and those of them that are terminal.
int TotalJobs(const normlab::v1::JobCounts& counts);
int EndedJobs(const normlab::v1::JobCounts& counts);

// Lines of equal width, the first one in bold; cells are padded to the widest of their column.
// `right`: columns of numbers. Columns that would pass `width` are shortened, the first ones least.
std::string Table(const Output& out,
                  const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right);

// A line for each experiment.
std::string ExperimentTable(const Output& out,
                            const std::vector<normlab::v1::Experiment>& experiments,
                            bool with_header);

// Name, times, counts and the cells, at most `max_cells` of them (those with most to tell first, in
// the design's order); 0: without the cells.
std::string DescribeExperiment(const Output& out,
                               const normlab::v1::Experiment& experiment,
                               int max_cells);

// The table of cells alone.
std::string CellTable(const Output& out, const normlab::v1::Experiment& experiment, int max_cells);

// A table for each series: a cell a line with mean, interval, extremes, n and, when asked for, the
// differences to the baseline.
std::string SummaryTables(const Output& out,
                          const normlab::v1::Experiment& experiment,
                          const normlab::v1::ExperimentSummary& summary,
                          double confidence);

}  // namespace normlab::client
