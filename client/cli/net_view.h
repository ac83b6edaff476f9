#pragma once

#include <string>

#include "normlab/v1/spec.pb.h"

namespace normlab::client {

// Networks in a few words, with the defaults of spec.proto where nothing is set. All functions are
// thread-safe; a model that is not set, or unknown to this program, is "-".

// The shape of a network: "mlp 100x3" (three hidden layers of 100), "mlp 256-128-64", "mlp linear",
// "mlp 64x20 skips", "cnn", "deep linear 10x25", "vgg-16", "resnet-20 x0.5" (half as many channels),
// "resnet-56 no skips", "custom, 12 layers".
std::string FormatNet(const normlab::v1::Model& model);

// The shape, the activation and what else is unusual: "mlp 100x3, sigmoid", "resnet-20, relu,
// zero-padded shortcuts".
std::string FormatModel(const normlab::v1::Model& model);

// The kind, as in a spec, and the settings that make it another normalizer: "none", "batch",
// "group 8", "ghost_batch 16", "layer after activation".
std::string FormatNormalization(const normlab::v1::Normalizer& normalization);

// The job's normalizer and its overrides: "batch", "batch; layer2.*: group 8; fc1: none".
std::string FormatNormalizations(const normlab::v1::JobSpec& spec);

}  // namespace normlab::client
