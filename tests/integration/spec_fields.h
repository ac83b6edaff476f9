#pragma once

#include <functional>
#include <string>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "normlab/v1/spec.pb.h"

namespace normlab {

// A spec that is valid, small and needs no files.
v1::JobSpec GoodSpec();

// A spec that is good but for the messages on the way to a field: the spec, the message that has the field, the field and
// its path, such as probes[0].every.
using VisitField = std::function<void(v1::JobSpec& spec,
                                      google::protobuf::Message& message,
                                      const google::protobuf::FieldDescriptor& field,
                                      const std::string& path)>;

// Calls `visit` for every scalar field that a spec can have, through messages that contain themselves once.
void EveryField(const VisitField& visit);

}  // namespace normlab
