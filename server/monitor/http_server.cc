#include "server/monitor/http_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "server/monitor/http_connections.h"
#include "server/monitor/http_stream.h"
#include "server/monitor/metrics.h"

namespace normlab::server {
namespace {

// What the kernel keeps while the accepting thread is not on a core; the library asks for 5.
constexpr int kBacklog = 1024;
// For AskWhetherReady to connect, and to get its answer.
constexpr int kTimeoutSeconds = 5;
constexpr size_t kMaxBodyBytes = 4096;
constexpr char kPlainText[] = "text/plain; charset=utf-8";

// Accepting hands every connection on at once: httplib's own pool gives each a thread for as long as its
// client likes.
class AtOnce final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> task) override { task(); }
  void shutdown() override {}
};

// httplib accepts, parses and routes; what is sent and received is ours.
class LimitedServer final : public httplib::Server {
 public:
  // Ends what waits and is served, before stop().
  void EndConnections() { connections_.Stop(); }

  void WidenBacklog() { ::listen(svr_sock_, kBacklog); }

 private:
  bool process_and_close_socket(socket_t socket) override {
    connections_.Add(socket);
    return true;
  }

  // One request per connection. Scrapes are seconds apart.
  std::string Answer(const std::string& request) {
    HttpStream stream(request);
    bool closed = false;
    (void)process_request(stream, /*close_connection=*/true, closed, nullptr);
    return stream.answer();
  }

  HttpConnections connections_{[this](const std::string& request) { return Answer(request); }};
};

}  // namespace

struct HttpServer::Impl {
  HttpServerOptions options;
  LimitedServer http;
  int port = 0;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  httplib::Server& http = impl->http;
  const HttpServerOptions& handlers = impl->options;

  http.new_task_queue = [] { return new AtOnce(); };
  // httplib's default is SO_REUSEPORT, with which two servers would share one port unnoticed.
  http.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  http.set_payload_max_length(kMaxBodyBytes);

  // httplib answers HEAD with the headers of GET.
  http.Get("/metrics", [&handlers](const httplib::Request&, httplib::Response& response) {
    response.set_content(handlers.metrics(), kMetricsContentType);
  });
  http.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", kPlainText);
  });
  http.Get("/readyz", [&handlers](const httplib::Request&, httplib::Response& response) {
    const absl::Status ready = handlers.ready();
    response.status = ready.ok() ? 200 : 503;
    response.set_content(ready.ok() ? "ok\n" : absl::StrCat(ready.message(), "\n"), kPlainText);
  });
  http.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.body.empty()) {
      response.set_content(absl::StrCat("status ", response.status,
                                        "; this server has /metrics, /healthz and /readyz\n"),
                           kPlainText);
    }
  });

  errno = 0;
  if (impl->options.port == 0) {
    impl->port = http.bind_to_any_port(impl->options.host);
  } else {
    impl->port =
        http.bind_to_port(impl->options.host, impl->options.port) ? impl->options.port : -1;
  }
  if (impl->port <= 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen for HTTP on ", impl->options.host, ":", impl->options.port,
                     ": ", errno == 0 ? "the address cannot be used" : std::strerror(errno),
                     "; choose another --http_listen, or port 0 for any free one"));
  }
  impl->http.WidenBacklog();
  impl->thread = std::thread([&http] { http.listen_after_bind(); });
  // stop() before the loop runs would be lost.
  while (!http.is_running()) {
    std::this_thread::yield();
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

absl::Status AskWhetherReady(const std::string& host, int port) {
  httplib::Client client(host, port);
  client.set_connection_timeout(kTimeoutSeconds, 0);
  client.set_read_timeout(kTimeoutSeconds, 0);
  const httplib::Result answer = client.Get("/readyz");
  if (!answer) {
    return absl::UnavailableError(absl::StrCat("nothing answers HTTP on ", host, ":", port, " (",
                                               httplib::to_string(answer.error()),
                                               "); is normlabd running, with this --http_listen?"));
  }
  if (answer->status != 200) {
    return absl::UnavailableError(
        absl::StrCat("not ready: ", absl::StripTrailingAsciiWhitespace(answer->body)));
  }
  return absl::OkStatus();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->http.EndConnections();
  impl_->http.stop();
  impl_->thread.join();
}

int HttpServer::port() const {
  return impl_->port;
}

}  // namespace normlab::server
