#include "server/monitor/http_server.h"

#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

#include "server/monitor/http_stream.h"
#include "server/monitor/metrics.h"

namespace normlab::server {
namespace {

constexpr int kThreads = 8;
constexpr size_t kMaxWaiting = 32;
// For a connection, from when it is looked at to the last byte of the answer.
constexpr absl::Duration kRequestLimit = absl::Seconds(3);
// For a new connection to begin its request.
constexpr absl::Duration kFirstByteLimit = absl::Seconds(1);
// For AskWhetherReady to connect, and to get its answer.
constexpr int kTimeoutSeconds = 5;
constexpr size_t kMaxBodyBytes = 4096;
constexpr char kPlainText[] = "text/plain; charset=utf-8";

// httplib's own pool queues connections without limit. Here the accepting thread waits when the
// queue is full, so that the kernel's backlog is the limit.
class BoundedTaskQueue final : public httplib::TaskQueue {
 public:
  BoundedTaskQueue() {
    for (int i = 0; i < kThreads; ++i) {
      threads_.emplace_back([this] { Work(); });
    }
  }

  void enqueue(std::function<void()> task) override {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(this, &BoundedTaskQueue::HasRoom));
    tasks_.push_back(std::move(task));
  }

  void shutdown() override {
    {
      absl::MutexLock lock(&mu_);
      closed_ = true;
    }
    for (std::thread& thread : threads_) {
      thread.join();
    }
    threads_.clear();
  }

 private:
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return tasks_.size() < kMaxWaiting; }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closed_ || !tasks_.empty(); }

  void Work() {
    while (true) {
      std::function<void()> task;
      {
        absl::MutexLock lock(&mu_);
        mu_.Await(absl::Condition(this, &BoundedTaskQueue::HasWork));
        if (tasks_.empty()) {
          return;
        }
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  absl::Mutex mu_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

// One request per connection: an idle one would keep a thread from others. Scrapes are seconds apart.
class LimitedServer final : public httplib::Server {
 public:
  // Connections that wait or are served end now.
  void EndConnections() { stopping_.store(true); }

 private:
  bool process_and_close_socket(socket_t socket) override {
    HttpStream stream(socket, kRequestLimit, stopping_);
    bool closed = false;
    const bool answered = stream.WaitForRequest(kFirstByteLimit) &&
                          process_request(stream, /*close_connection=*/true, closed, nullptr);
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
    return answered;
  }

  std::atomic<bool> stopping_ = false;
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

  http.new_task_queue = [] { return new BoundedTaskQueue(); };
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
