#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr` (an absl::Status) is not OK.
#define NORMLAB_RETURN_IF_ERROR(expr)                                 \
  do {                                                                \
    if (absl::Status normlab_status = (expr); !normlab_status.ok()) { \
      return normlab_status;                                          \
    }                                                                 \
  } while (false)

// Declares or assigns `lhs` from an absl::StatusOr, or returns its status from the enclosing
// function.
#define NORMLAB_ASSIGN_OR_RETURN(lhs, expr) \
  NORMLAB_ASSIGN_OR_RETURN_IMPL(NORMLAB_CONCAT(normlab_statusor_, __LINE__), lhs, expr)

#define NORMLAB_CONCAT_INNER(a, b) a##b
#define NORMLAB_CONCAT(a, b) NORMLAB_CONCAT_INNER(a, b)
#define NORMLAB_ASSIGN_OR_RETURN_IMPL(statusor, lhs, expr) \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) {                                    \
    return std::move(statusor).status();                   \
  }                                                        \
  lhs = std::move(statusor).value()
