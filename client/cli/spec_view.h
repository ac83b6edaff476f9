#pragma once

#include <string>

#include "normlab/v1/spec.pb.h"

namespace normlab::client {

// Parts of a spec in a few words, with the defaults of spec.proto where nothing is set. All functions
// are thread-safe; what is not set and has no default, or is unknown to this program, is "-".

// The data set, what is used of it and what happens to its images: "cifar10, 500 training examples,
// crop 4, flip, cutout 16", "arrays mine.npz", "gaussian_classes".
std::string FormatData(const normlab::v1::Data& data);

// "sgd, learning rate 0.1, nesterov momentum 0.9, weight decay (weights only) 0.0001, gradient norm
// at most 1"; momentum and weight decay only where they are not zero, betas and alpha only where
// they are set.
std::string FormatOptimizer(const normlab::v1::Optimizer& optimizer);

// "constant", "times 0.1 at epochs 30, 60", "cosine down to 0, warm-up of 100 steps", "one cycle".
// "2 ranks of 1 thread, each with statistics of its own share"; empty: one process.
std::string FormatDataParallel(const normlab::v1::JobSpec& resolved);

std::string FormatSchedule(const normlab::v1::Schedule& schedule);

}  // namespace normlab::client
