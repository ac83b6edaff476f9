#pragma once

#include <string>
#include <vector>

#include "normlab/v1/spec.pb.h"

// Internal to engine/spec.
namespace normlab::engine {

// What layers call the network's input, and what the loss is called: no layer may have these names.
inline constexpr char kInputName[] = "input";
inline constexpr char kLossName[] = "loss";

// The name of every layer: its own, or its kind and its number within the kind ("conv1", "norm2");
// the next number when another layer has that name. Total: any message gets an answer.
std::vector<std::string> CustomLayerNames(const v1::CustomModel& custom);

}  // namespace normlab::engine
