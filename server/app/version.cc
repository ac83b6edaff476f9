#include "server/app/version.h"

namespace normlab::server {

const char* Version() {
  return NORMLAB_VERSION;
}

}  // namespace normlab::server
