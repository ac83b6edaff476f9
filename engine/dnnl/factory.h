#pragma once

// What the factories of primitives.h have in common; for the .cc files of this folder only.

#include <initializer_list>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"

#include "engine/dnnl/descriptions.h"
#include "engine/dnnl/internal.h"
#include "engine/dnnl/primitives.h"

namespace normlab::engine {

using Desc = dnnl::memory::desc;

inline const Desc& D(const Layout& layout) {
  return layout.impl().desc;
}

// Bias, statistics, gamma and beta: F32 whatever the type of the data.
inline Desc Vector(int64_t size) {
  return Desc({size}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a);
}

// A vector of one value a channel of `activations` ([N,C,...]), or none.
inline Desc PerChannel(const Layout& activations, bool wanted = true) {
  return wanted ? Vector(activations.dims()[1]) : Desc();
}

inline dnnl::prop_kind ForwardKind(bool training) {
  return training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
}

inline dnnl::primitive_attr Attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

// Calls `make` with the context of our primitives; see Guarded.
template <typename Make>
absl::StatusOr<Op> Build(const Runtime& runtime, absl::string_view what, Make make) {
  return Guarded(what, [&]() -> absl::StatusOr<Op> {
    const dnnl::primitive_attr attributes = Attributes();
    return make(describe::Context{runtime.impl()->engine, attributes});
  });
}

// Wraps a primitive descriptor; arguments of zero size are left out.
template <typename Primitive>
absl::StatusOr<Op> Finish(const Runtime& runtime,
                          const typename Primitive::primitive_desc& description,
                          std::initializer_list<std::pair<Arg, Desc>> arguments) {
  auto impl = std::make_unique<Op::Impl>();
  impl->runtime = runtime.impl();
  impl->primitive = Primitive(description);
  impl->forward_hint = description;
  impl->implementation = description.impl_info_str();
  const auto add = [&](Arg arg, const Desc& desc) {
    if (desc.get_size() > 0) {
      impl->slots.push_back({arg, desc, nullptr, dnnl::memory()});
    }
  };
  for (const auto& [arg, desc] : arguments) {
    add(arg, desc);
  }
  add(Arg::kScratchpad, description.scratchpad_desc());
  return Op(std::move(impl));
}

template <typename Primitive>
const typename Primitive::primitive_desc& Hint(const Op& forward) {
  return std::any_cast<const typename Primitive::primitive_desc&>(forward.impl().forward_hint);
}

}  // namespace normlab::engine
