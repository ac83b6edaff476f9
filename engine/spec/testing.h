#pragma once

#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "normlab/v1/spec.pb.h"

namespace normlab::engine::testing {

// The spec of this text format; a test failure when it is none.
inline v1::JobSpec ParseSpec(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

}  // namespace normlab::engine::testing
