#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace normlab::server {

struct HttpServerOptions {
  std::string host;  // numeric address
  int port = 0;      // 0: any free one
  // The exposition; called on threads of the HTTP server.
  std::function<std::string()> metrics;
  // OK while the service takes jobs; else why not, for a person.
  std::function<absl::Status()> ready;
};

// Asks the server at a numeric address for /readyz. OK: it takes jobs; UNAVAILABLE: why not, or that
// there is none.
absl::Status AskWhetherReady(const std::string& host, int port);

// GET and HEAD of /metrics, /healthz (200 while the process lives) and /readyz (200, or 503 with
// the reason). No job data. Slow clients keep nobody waiting: how connections are limited is in
// http_connections.h.
//
// Serves from Start to destruction. Thread-safe.
class HttpServer {
 public:
  // UNAVAILABLE, with the reason and what to do, when the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options);
  // Cuts off what is in progress within a tenth of a second, then stops.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace normlab::server
