#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/checkpoint/safetensors.h"

namespace normlab::engine {

// A checkpoint is a folder:
//   model.safetensors      parameters and running statistics, named and laid out as in PyTorch's
//                          state_dict
//   optimizer.safetensors  state of the optimizer, "<slot>.<parameter>" and whole numbers such as
//                          "step" (I64 scalars); only when it has any
//   manifest.json          format, step, seed, SHA-256 of the training specification, of the data
//                          set and of the initial weights' file; what was measured for the plan, and the latest
//                          metrics; size and SHA-256 of both files, SHA-256 of every tensor
// Random numbers and the position in the data are pure functions of seed and step, so this is all
// that a run consists of.
//
// The folder appears at once (written under another name, flushed, renamed, parent flushed): it is
// complete or not there.

// What is written.
struct CheckpointContents {
  int64_t step = 0;  // updates done
  uint32_t seed = 0;
  std::string spec_sha256;  // of what determines the run, see TrainingSpecSha256
  std::vector<ConstTensor> model;
  std::vector<ConstTensor> optimizer;
  std::vector<ConstCounter> optimizer_counters;
  std::string data_sha256;  // of the data set, see MappedDataset::sha256
  // Of the file that the run began with; empty when its weights came from the initializer.
  std::string initial_weights_sha256;
  // What was measured when the run was planned, see MeasuredChoices.
  std::map<std::string, std::string> measured_choices;
  // Last finite value of every series, for people.
  std::map<std::string, double> latest_metrics;
};

struct WrittenFile {
  std::string name;  // within the folder
  int64_t bytes = 0;
  std::string sha256;  // lower-case hexadecimal
};

struct WrittenCheckpoint {
  std::string folder;
  std::string manifest_sha256;
  int64_t bytes = 0;               // of everything in the folder
  std::vector<WrittenFile> files;  // weights first, then the optimizer's state when it has any
};

// Writes the folder `parent`/`name`; creates `parent` when it is missing and replaces an earlier
// folder of that name. Errors carry the path: RESOURCE_EXHAUSTED for a full disk, else as errno has
// it.
absl::StatusOr<WrittenCheckpoint> WriteCheckpoint(const std::string& parent,
                                                  const std::string& name,
                                                  const CheckpointContents& contents);

// What the manifest of a checkpoint that was read says.
struct LoadedCheckpoint {
  int64_t step = 0;
  std::string initial_weights_sha256;
  std::map<std::string, double> latest_metrics;
};

// The measured choices of a checkpoint, which a plan needs before there are tensors to load; empty
// when it has none or cannot be read (LoadCheckpoint then says why).
std::map<std::string, std::string> ReadMeasuredChoices(const std::string& folder);

// The data set that a checkpoint was trained on, see CheckpointContents; empty when it is an older one
// that does not say, or cannot be read.
std::string ReadDataSha256(const std::string& folder);

// Reads a checkpoint into the given tensors and counters. Everything is verified first:
// manifest, sizes, checksums, names and shapes. NOT_FOUND: no such folder; DATA_LOSS: damaged,
// naming the file or tensor; FAILED_PRECONDITION: of another specification or seed.
absl::StatusOr<LoadedCheckpoint> LoadCheckpoint(
    const std::string& folder,
    const std::string& spec_sha256,
    uint32_t seed,
    const std::vector<MutableTensor>& model,
    const std::vector<MutableTensor>& optimizer,
    const std::vector<MutableCounter>& optimizer_counters = {});

// "step-000000123": sorts by step.
std::string CheckpointName(int64_t step);

// A name under which a file of a checkpoint is worth saving: "checkpoint-500.safetensors" for
// ("checkpoint-500", "model.safetensors"), "checkpoint-500-optimizer.safetensors" for its
// optimizer.safetensors.
std::string DownloadName(const std::string& checkpoint, const std::string& file);

// Removes the checkpoints of `parent` but the last `keep` and those from `first_needed_step` on,
// and what interrupted writes left behind. Names that are not checkpoints are left alone. Best
// effort: a folder that cannot be removed stays.
void PruneCheckpoints(const std::string& parent, int keep, int64_t first_needed_step);

}  // namespace normlab::engine
