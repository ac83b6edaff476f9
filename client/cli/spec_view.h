#pragma once

#include <string>

#include "normlab/v1/spec.pb.h"

namespace normlab::client {

// Parts of a spec in a few words, with the defaults of spec.proto where nothing is set. All functions
// are thread-safe; a model that is not set, or unknown to this program, is "-".

// The shape of a network: "mlp 100x3" (three hidden layers of 100), "mlp 256-128-64", "mlp linear",
// "cnn".
std::string FormatNet(const normlab::v1::Model& model);

// The shape and the activation: "mlp 100x3, sigmoid".
std::string FormatModel(const normlab::v1::Model& model);

// The data set, what is used of it and what happens to its images: "cifar10, 500 training examples,
// crop 4, flip, cutout 16", "arrays mine.npz", "gaussian_classes".
std::string FormatData(const normlab::v1::Data& data);

// "batch" or "none".
std::string FormatNormalization(const normlab::v1::Normalizer& normalization);

// "sgd, learning rate 0.1, nesterov momentum 0.9, weight decay (weights only) 0.0001, gradient norm
// at most 1"; momentum and weight decay only where they are not zero, betas and alpha only where
// they are set.
std::string FormatOptimizer(const normlab::v1::Optimizer& optimizer);

// "constant", "times 0.1 at epochs 30, 60", "cosine down to 0, warm-up of 100 steps", "one cycle".
std::string FormatSchedule(const normlab::v1::Schedule& schedule);

}  // namespace normlab::client
