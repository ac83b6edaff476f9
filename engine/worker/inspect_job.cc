#include "engine/worker/inspect_job.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "engine/checkpoint/initial_weights.h"
#include "engine/dnnl/runtime.h"
#include "engine/models/build_graph.h"
#include "engine/spec/run_length.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

void AddViolation(absl::string_view field, absl::string_view description, v1::DataReport& report) {
  v1::SpecViolation& violation = *report.add_violations();
  violation.set_field(std::string(field));
  violation.set_description(std::string(description));
  report.set_lasting(true);  // of the spec or the file
}

void CheckPrecision(v1::Precision::Kind precision, v1::DataReport& report) {
  if (precision == v1::Precision::BF16 && !ComputesInBf16()) {
    AddViolation("precision",
                 absl::StrCat("is BF16, which oneDNN ", OneDnnVersion(),
                              " does not compute on this ", "server's processor (", CpuIsaName(),
                              "): it takes AVX-512; use F32, or a server that has it"),
                 report);
  }
}

DatasetShape ShapeOf(const v1::DataReport& report) {
  return {.channels = report.channels(),
          .height = report.height(),
          .width = report.width(),
          .classes = report.classes(),
          .train_examples = report.train_examples(),
          .test_examples = report.test_examples(),
          .targets = report.targets(),
          .dense = report.dense(),
          .floats = report.floats()};
}

std::vector<WeightShape> WeightShapes(const Graph& graph) {
  std::vector<WeightShape> shapes;
  for (const std::vector<ParameterSpec>* specs : {&graph.parameters(), &graph.state()}) {
    for (const ParameterSpec& spec : *specs) {
      shapes.push_back({spec.name, spec.dims, spec.role});
    }
  }
  return shapes;
}

void CheckWeights(const v1::InspectDataRequest& request, v1::DataReport& report) {
  const v1::InitialWeights& weights = request.initial_weights();
  const std::vector<std::string> roots(request.data_roots().begin(), request.data_roots().end());
  absl::Status status = CheckWeightsFile(weights.path(), roots);
  if (status.ok() && request.has_resolved_spec() && report.violations().empty()) {
    // Why there is no network is the server's to say, which builds it too.
    const BuiltGraph built = BuildGraph(request.resolved_spec(), ShapeOf(report));
    if (built.graph.has_value()) {
      std::vector<std::string> unused;
      status = CheckInitialWeights({.path = weights.path(),
                                    .ignore = {weights.ignore().begin(), weights.ignore().end()},
                                    .data_roots = roots},
                                   WeightShapes(*built.graph), unused);
      for (const std::string& pattern : unused) {
        report.add_warnings(absl::StrCat(
            "initial_weights.ignore has ", Quoted(pattern),
            ", which matches no tensor of the network or of the file and has no effect"));
      }
    }
  }
  if (!status.ok()) {
    AddViolation("initial_weights.path", status.message(), report);
  }
}

}  // namespace

v1::DataReport InspectJob(DataInspector& inspector, const v1::InspectDataRequest& request) {
  v1::DataReport report = inspector.Inspect(request);
  if (request.has_initial_weights()) {
    CheckWeights(request, report);
    if (report.violations().empty()) {
      report.set_lasting(false);  // that file is not among those of the data set
    }
  }
  CheckPrecision(request.precision(), report);
  return report;
}

}  // namespace normlab::engine
