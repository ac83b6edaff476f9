// Measures every convolution of VGG-16 and ResNet-20 (3x32x32), pass by pass, with each of the
// engine's algorithms and number formats, and says whether the fixed AUTO rule picks the best one.
// The table is where the rule in engine/layers/convolution_choice.cc comes from.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"
#include "engine/dnnl/runtime.h"
#include "engine/graph/graph.h"
#include "engine/layers/convolution_choice.h"
#include "engine/layers/plan.h"
#include "engine/layers/small_image_convolution.h"

#include "CLI/CLI.hpp"

namespace normlab::engine {
namespace {

// The measurements of one pass of one layer differ by this much from run to run.
constexpr double kAsGood = 1.05;

struct Row {
  const char* net;
  int64_t in, out, size, kernel, stride;
  int count;  // layers of this shape
};

constexpr Row kRows[] = {{"vgg16", 3, 64, 32, 3, 1, 1},     {"vgg16", 64, 64, 32, 3, 1, 1},
                         {"vgg16", 64, 128, 16, 3, 1, 1},   {"vgg16", 128, 128, 16, 3, 1, 1},
                         {"vgg16", 128, 256, 8, 3, 1, 1},   {"vgg16", 256, 256, 8, 3, 1, 2},
                         {"vgg16", 256, 512, 4, 3, 1, 1},   {"vgg16", 512, 512, 4, 3, 1, 2},
                         {"vgg16", 512, 512, 2, 3, 1, 3},   {"resnet20", 3, 16, 32, 3, 1, 1},
                         {"resnet20", 16, 16, 32, 3, 1, 6}, {"resnet20", 16, 32, 32, 3, 2, 1},
                         {"resnet20", 16, 32, 32, 1, 2, 1}, {"resnet20", 32, 32, 16, 3, 1, 5},
                         {"resnet20", 32, 64, 16, 3, 2, 1}, {"resnet20", 32, 64, 16, 1, 2, 1},
                         {"resnet20", 64, 64, 8, 3, 1, 5}};

constexpr ConvolutionPass kPasses[] = {ConvolutionPass::kForward, ConvolutionPass::kBackwardData,
                                       ConvolutionPass::kBackwardWeights};

ConvolutionProblem ProblemOf(const Row& row, int64_t batch, DataType type) {
  const int64_t padding = row.kernel / 2;
  const int64_t out_size = (row.size + 2 * padding - row.kernel) / row.stride + 1;
  ConvolutionProblem problem;
  problem.x = {batch, row.in, row.size, row.size};
  problem.w = {row.out, row.in, row.kernel, row.kernel};
  problem.y = {batch, row.out, out_size, out_size};
  problem.geometry = {.kernel = row.kernel, .stride = row.stride, .padding = padding};
  problem.type = type;
  return problem;
}

struct Cell {
  double seconds = std::numeric_limits<double>::infinity();
  std::string implementation;
};

std::string GigaFlops(double giga, const Cell& cell) {
  return std::isinf(cell.seconds) ? "-" : absl::StrFormat("%.0f", giga / cell.seconds);
}

// A pass between neighbours in the layouts of the direct algorithm; an empty cell when oneDNN has no
// such kernel.
absl::StatusOr<Cell> Measure(const Runtime& runtime,
                             const ConvolutionProblem& problem,
                             ConvolutionPass pass,
                             const ConvolutionChoice& choice,
                             int repeats) {
  const absl::StatusOr<Op> direct = MakeConvolution(runtime, problem, ConvolutionPass::kForward,
                                                    {ConvAlgorithm::kDirect, problem.type});
  const absl::StatusOr<Op> op = MakeConvolution(runtime, problem, pass, choice);
  Cell cell;
  if (absl::IsUnimplemented(direct.status()) || absl::IsUnimplemented(op.status())) {
    return cell;
  }
  NORMLAB_RETURN_IF_ERROR(direct.status());
  NORMLAB_RETURN_IF_ERROR(op.status());
  const ConvolutionNeighbours neighbours = {direct->layout(Arg::kSource),
                                            direct->layout(Arg::kDestination)};
  cell.implementation = op->implementation();
  for (int i = 0; i < repeats; ++i) {
    NORMLAB_ASSIGN_OR_RETURN(const double seconds,
                             MeasureConvolution(runtime, problem, pass, choice, neighbours));
    cell.seconds = std::min(cell.seconds, seconds);
  }
  return cell;
}

// The engine's own algorithm for 2x2 images, between the same neighbours, with the transform of plain
// weights, as the others are measured with their reorders; an empty cell where it does not fit.
absl::StatusOr<Cell> MeasureNineProducts(const Runtime& runtime,
                                         const ConvolutionProblem& problem,
                                         ConvolutionPass pass,
                                         int repeats) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRuns = 10;
  Cell cell;
  if (!SmallImageConvolution::Fits(problem, pass)) {
    return cell;
  }
  NORMLAB_ASSIGN_OR_RETURN(const Op direct,
                           MakeConvolution(runtime, problem, ConvolutionPass::kForward,
                                           {ConvAlgorithm::kDirect, problem.type}));
  Planner planner(runtime, {.batch = problem.x[0], .type = problem.type, .share_memory = false});
  const View x = planner.ReserveKept(direct.layout(Arg::kSource));
  const View d_y = planner.ReserveKept(direct.layout(Arg::kDestination));
  const View w = planner.ReserveKept(Layout::RowMajor(problem.w));
  SmallImageConvolution convolution("table", problem);
  if (pass == ConvolutionPass::kBackwardWeights) {
    NORMLAB_RETURN_IF_ERROR(convolution.PlanBackwardWeights(planner, x, d_y, w, nullptr));
  } else {
    NORMLAB_RETURN_IF_ERROR(convolution.PlanForward(planner, x, w, nullptr).status());
  }
  if (pass == ConvolutionPass::kBackwardData) {
    NORMLAB_RETURN_IF_ERROR(convolution.PlanBackwardData(planner, d_y).status());
  }
  NORMLAB_RETURN_IF_ERROR(planner.Finish());
  for (int run = 0; run <= kRuns * repeats; ++run) {
    const Clock::time_point start = Clock::now();
    convolution.Refresh();
    switch (pass) {
      case ConvolutionPass::kForward:
        convolution.Forward();
        break;
      case ConvolutionPass::kBackwardData:
        convolution.BackwardData();
        break;
      case ConvolutionPass::kBackwardWeights:
        convolution.BackwardWeights();
        break;
    }
    if (run > 0) {  // the first one touches the memory
      cell.seconds =
          std::min(cell.seconds, std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  cell.implementation = planner.choices().back().implementation;
  return cell;
}

// Of all layers, in seconds a step, for one number format.
struct Totals {
  double direct = 0;
  double automatic = 0;
  double best = 0;
  int rows = 0;
  int good = 0;
};

absl::Status PrintPass(const Runtime& runtime,
                       const Row& row,
                       const ConvolutionProblem& problem,
                       ConvolutionPass pass,
                       int repeats,
                       bool names,
                       Totals& totals) {
  const std::vector<ConvolutionChoice> candidates =
      ConvolutionCandidates(problem, pass, HasWinograd());
  const ConvolutionChoice picked = ChooseConvolution(problem, pass, HasWinograd());
  std::vector<Cell> cells;
  Cell chosen;
  double best = std::numeric_limits<double>::infinity();
  for (const ConvolutionChoice& candidate : candidates) {
    NORMLAB_ASSIGN_OR_RETURN(Cell cell, Measure(runtime, problem, pass, candidate, repeats));
    best = std::min(best, cell.seconds);
    if (candidate == picked) {
      chosen = cell;
    }
    cells.push_back(std::move(cell));
  }
  if (std::isinf(cells[0].seconds)) {
    return absl::OkStatus();
  }
  if (std::isinf(chosen.seconds)) {
    chosen = cells[0];  // as the layer does
  }
  cells.resize(2);
  std::string name = picked.algorithm == ConvAlgorithm::kWinograd ? "winograd" : "direct";
  NORMLAB_ASSIGN_OR_RETURN(Cell products, MeasureNineProducts(runtime, problem, pass, repeats));
  if (!std::isinf(products.seconds)) {  // then the layer does not ask the rule
    chosen = products;
    name = "9 products";
    best = std::min(best, products.seconds);
  }
  cells.push_back(std::move(products));
  const bool good = chosen.seconds <= kAsGood * best;
  const double giga = problem.operations() * 1e-9;
  std::printf(
      "%-8s %4ld->%-4ld %2ldx%-2ld k%ld s%ld x%d  %-4s %-16s %8s %8s %8s   %-10s %s\n", row.net,
      row.in, row.out, row.size, row.size, row.kernel, row.stride, row.count,
      problem.type == DataType::kF32 ? "f32" : "bf16", std::string(PassName(pass)).c_str(),
      GigaFlops(giga, cells[0]).c_str(), GigaFlops(giga, cells[1]).c_str(),
      GigaFlops(giga, cells[2]).c_str(), name.c_str(),
      good ? "best"
           : absl::StrCat("slower by ", static_cast<int>(100 * (chosen.seconds / best - 1)), "%")
                 .c_str());
  if (names) {
    std::printf("    %s | %s | %s\n", cells[0].implementation.c_str(),
                cells[1].implementation.c_str(), cells[2].implementation.c_str());
  }
  totals.direct += row.count * cells[0].seconds;
  totals.automatic += row.count * chosen.seconds;
  totals.best += row.count * best;
  totals.rows += 1;
  totals.good += good ? 1 : 0;
  return absl::OkStatus();
}

absl::Status Print(
    const std::string& net, DataType type, int64_t batch, int threads, int repeats, bool names) {
  omp_set_num_threads(threads);
  NORMLAB_ASSIGN_OR_RETURN(const Runtime runtime, Runtime::Create());
  std::printf("oneDNN %s, %s, batch %ld, %d thread%s; GFLOP/s, reorders included\n",
              OneDnnVersion().c_str(), CpuIsaName().c_str(), batch, threads,
              threads == 1 ? "" : "s");
  std::printf("%-31s %-4s %-16s %8s %8s %8s   %s\n", "layer", "type", "pass", "direct", "winograd",
              "9 prod.", "AUTO");
  Totals totals;
  for (const Row& row : kRows) {
    if (!net.empty() && net != row.net) {
      continue;
    }
    for (const ConvolutionPass pass : kPasses) {
      if (pass == ConvolutionPass::kBackwardData && row.in == 3) {
        continue;  // nobody needs the gradient of the images
      }
      NORMLAB_RETURN_IF_ERROR(
          PrintPass(runtime, row, ProblemOf(row, batch, type), pass, repeats, names, totals));
    }
  }
  std::printf(
      "all layers, ms a step: direct %.1f, AUTO %.1f, best %.1f; AUTO is within 5%% of the "
      "best in %d of %d rows\n\n",
      totals.direct * 1e3, totals.automatic * 1e3, totals.best * 1e3, totals.good, totals.rows);
  return absl::OkStatus();
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  CLI::App app("Measures the convolutions of VGG-16 and ResNet-20 with every algorithm");
  std::string net;
  int64_t batch = 128;
  int threads = 2;
  int repeats = 3;
  bool names = false;
  std::string type = "f32";
  app.add_option("--type", type, "f32 | bf16")->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--net", net, "vgg16 | resnet20; default: both")
      ->check(CLI::IsMember({"vgg16", "resnet20"}));
  app.add_option("--batch", batch, "examples")->check(CLI::Range(1, 4096));
  app.add_option("--threads", threads, "OpenMP threads")->check(CLI::Range(1, 1024));
  app.add_option("--repeats", repeats, "measurements of each cell; the fastest counts")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--names", names, "also print oneDNN's names of the kernels");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = normlab::engine::Print(
      net, type == "bf16" ? normlab::engine::DataType::kBf16 : normlab::engine::DataType::kF32,
      batch, threads, repeats, names);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
