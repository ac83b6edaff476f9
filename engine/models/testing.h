#pragma once

#include <string>
#include <vector>

#include "engine/models/build_graph.h"

#include "normlab/v1/spec.pb.h"

// What the tests of networks built from specs share.
namespace normlab::engine::testing {

// Small images, 5 classes.
inline constexpr DatasetShape kImages = {.channels = 2,
                                         .height = 9,
                                         .width = 7,
                                         .classes = 5,
                                         .train_examples = 101,
                                         .test_examples = 23};
// CIFAR-10's.
inline constexpr DatasetShape kCifar = {.channels = 3,
                                        .height = 32,
                                        .width = 32,
                                        .classes = 10,
                                        .train_examples = 500,
                                        .test_examples = 100};
// 13 features, 3 real-valued targets.
inline constexpr DatasetShape kRegression = {.channels = 13,
                                             .height = 1,
                                             .width = 1,
                                             .train_examples = 100,
                                             .test_examples = 50,
                                             .targets = 3,
                                             .dense = true,
                                             .floats = true};

// The valid, resolved spec of this text (data: mnist unless said); a test failure when it is not
// valid.
v1::JobSpec Spec(const std::string& text);

// Names of all kinds of normalizers, as fields of a spec.
std::vector<std::string> NormalizerKinds();

std::vector<std::string> Names(const Graph& graph);
std::vector<std::string> ParameterNames(const Graph& graph);

}  // namespace normlab::engine::testing
