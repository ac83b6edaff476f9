// What happens to a million jobs on a thousand nodes that fail: the server's own scheduling policy, its costs as
// measured on the real one (flags), and a cluster that is simulated event by event. docs/scaling.md says what follows.
//
// Each server has an equal part of the nodes and of the jobs. A node fails at random; its attempts are noticed as
// lost after a while, and their jobs wait again and go on from their last checkpoint. A server is away now and then;
// its attempts go on meanwhile, and it starts nothing. Every job has to end exactly once.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

#include "server/scheduler/policy.h"
#include "server/scheduler/shares.h"

#include <CLI/CLI.hpp>

namespace normlab::bench {
namespace {

struct Parameters {
  int64_t jobs = 1'000'000;
  int nodes = 1000;
  int cores_per_node = 32;
  int owners = 20;
  std::vector<int> servers = {1, 2, 4, 8};
  double median_minutes = 20;  // of a job's training, log-normally spread
  double spread = 1;           // standard deviation of its logarithm
  double longest_hours = 4;    // no job trains longer
  double node_mtbf_days = 30;
  double node_repair_minutes = 60;
  double detection_minutes = 5;
  double checkpoint_minutes = 10;
  double restart_hours = 24;
  double restart_seconds = 20;
  int queue_limit = 10'000;
  double decision_seconds = 10;  // between two looks at the queue
  // As the benchmark of the service measures them.
  double worker_cpu_percent = 0.125;  // of a core, a worker: 256 take 0.32
  double points_per_second = 400;     // of a worker: 100 steps a second of 4 series
  double writer_points = 1.34e6;      // a second that one writer makes durable, of one stream
  double point_bytes = 11;            // in the database
  uint32_t seed = 1;
};

struct Job {
  int owner = 0;
  int cores = 1;
  double seconds = 0;  // of training
  double done = 0;     // of them, in the last checkpoint
  int attempts = 0;
  int ended = 0;
  double came = 0;
  double waited = 0;
  double queued_since = 0;
  // Of the attempt that runs.
  int node = -1;
  double started = 0;
};

struct Event {
  enum Kind { kEnd, kFails, kNoticed, kRepaired };
  double at = 0;
  Kind kind = kEnd;
  int64_t which = 0;  // a job, or a node
  int attempt = 0;
  bool operator<(const Event& other) const { return at > other.at; }  // the earliest on top
};

struct Result {
  double hours = 0;
  double busy_core_hours = 0;
  double worker_hours = 0;
  double lost_core_hours = 0;
  int64_t lost_attempts = 0;
  int64_t node_failures = 0;
  int64_t peak_workers = 0;
  double longest_wait_hours = 0;
  double decide_cpu_seconds = 0;
  double longest_decision_ms = 0;
  bool exactly_once = true;
};

// Of this thread, so that the machine's other work does not count.
double CpuSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

absl::Duration At(double seconds) {
  return absl::Seconds(seconds);
}

// One server with its part of the cluster.
class Shard {
 public:
  Shard(const Parameters& parameters, int64_t jobs, int nodes, uint32_t seed)
      : p_(parameters), random_(seed), free_(nodes, parameters.cores_per_node), up_(nodes, true) {
    std::lognormal_distribution<double> seconds(std::log(60 * p_.median_minutes), p_.spread);
    // Most jobs are of one core, some of two or four.
    std::discrete_distribution<int> width({80, 15, 5});
    jobs_.resize(jobs);
    for (Job& job : jobs_) {
      job.owner = static_cast<int>(random_() % p_.owners);
      job.cores = 1 << width(random_);
      job.seconds = std::min(seconds(random_), 3600 * p_.longest_hours);
    }
    for (int node = 0; node < nodes; ++node) {
      Push(TimeToFailure(), Event::kFails, node);
    }
    for (int core = 0; core < nodes * p_.cores_per_node; ++core) {
      capacity_.cores.push_back(core);
    }
    capacity_.memory_bytes = int64_t{1} << 60;
  }

  Result Run() {
    const auto count = static_cast<int64_t>(jobs_.size());
    double next_decision = 0;
    while (ended_ < count) {
      // Clients fill the queue as far as it may be filled, and come again.
      while (came_ < count && static_cast<int>(waiting_.size()) < p_.queue_limit) {
        jobs_[came_].came = now_;
        Enqueue(came_++);
      }
      while (!events_.empty() && events_.top().at <= next_decision) {
        const Event event = events_.top();
        events_.pop();
        now_ = std::max(now_, event.at);
        Handle(event);
      }
      now_ = next_decision;
      if (!ServerIsAway()) {
        StartWhatFits();
      }
      next_decision += p_.decision_seconds;
    }
    result_.hours = now_ / 3600;
    for (const Job& job : jobs_) {
      result_.exactly_once = result_.exactly_once && job.ended == 1;
      result_.longest_wait_hours = std::max(result_.longest_wait_hours, job.waited / 3600);
    }
    return result_;
  }

 private:
  void Push(double in, Event::Kind kind, int64_t which, int attempt = 0) {
    events_.push({now_ + in, kind, which, attempt});
  }

  double TimeToFailure() {
    return std::exponential_distribution<double>(1 / (86400 * p_.node_mtbf_days))(random_);
  }

  bool ServerIsAway() const {
    return now_ >= 3600 * p_.restart_hours &&
           std::fmod(now_, 3600 * p_.restart_hours) < p_.restart_seconds;
  }

  void Enqueue(int64_t id) {
    Job& job = jobs_[id];
    job.queued_since = now_;
    server::QueuedJob queued;
    queued.id = absl::StrFormat("%08d", id);
    queued.owner = absl::StrCat("owner", job.owner);
    queued.create_time = absl::FromUnixSeconds(0) + At(job.came);
    queued.waited = At(job.waited);
    queued.queued_since = At(now_);
    queued.cores = job.cores;
    queued.memory_bytes = 1;
    waiting_[queued.id] = std::move(queued);
  }

  // The node with room that comes next; -1: none has enough in one piece.
  int FindNode(int cores) {
    for (size_t tried = 0; tried < free_.size(); ++tried) {
      next_node_ = (next_node_ + 1) % free_.size();
      if (up_[next_node_] && free_[next_node_] >= cores) {
        return static_cast<int>(next_node_);
      }
    }
    return -1;
  }

  void StartWhatFits() {
    if (waiting_.empty()) {
      return;
    }
    std::vector<const server::QueuedJob*> queued;
    for (const auto& [id, job] : waiting_) {
      queued.push_back(&job);
    }
    // To the policy a node that is down is a reservation.
    int free = 0;
    for (size_t node = 0; node < free_.size(); ++node) {
      free += up_[node] ? free_[node] : 0;
    }
    if (free == 0) {
      return;
    }
    const std::vector<server::Reservation> held = {
        {std::vector<int>(capacity_.cores.begin() + free, capacity_.cores.end()), 0, ""}};
    server::Sharing sharing;
    sharing.usage = ledger_.Usage(At(now_));
    const double begin = CpuSeconds();
    server::Decision decision = server::Decide(server::QueueState{.queued = queued,
                                                                  .running = held,
                                                                  .capacity = capacity_,
                                                                  .history = history_,
                                                                  .now = At(now_),
                                                                  .sharing = sharing});
    const double took = CpuSeconds() - begin;
    result_.decide_cpu_seconds += took;
    result_.longest_decision_ms = std::max(result_.longest_decision_ms, 1000 * took);
    history_ = std::move(decision.history);
    for (const server::StartAction& start : decision.starts) {
      const int64_t id = std::stoll(start.id);
      Job& job = jobs_[id];
      const int node = FindNode(job.cores);
      if (node < 0) {
        continue;  // free cores, but not enough on one node: it waits for the next look
      }
      waiting_.erase(start.id);
      free_[node] -= job.cores;
      job.node = node;
      job.waited += now_ - job.queued_since;
      job.started = now_;
      ++job.attempts;
      ++running_;
      result_.peak_workers = std::max(result_.peak_workers, running_);
      ledger_.Hold(absl::StrCat("owner", job.owner), job.cores, At(now_));
      on_node_[node].push_back(id);
      Push(job.seconds - job.done, Event::kEnd, id, job.attempts);
    }
  }

  // The attempt is over; what it held is free.
  void Release(int64_t id) {
    Job& job = jobs_[id];
    free_[job.node] += job.cores;
    std::vector<int64_t>& there = on_node_[job.node];
    there.erase(std::find(there.begin(), there.end(), id));
    --running_;
    ledger_.Release(absl::StrCat("owner", job.owner), job.cores, At(now_));
    result_.busy_core_hours += job.cores * (now_ - job.started) / 3600;
    result_.worker_hours += (now_ - job.started) / 3600;
    job.node = -1;
  }

  void Handle(const Event& event) {
    switch (event.kind) {
      case Event::kEnd: {
        Job& job = jobs_[event.which];
        if (job.attempts != event.attempt || job.node < 0 || !up_[job.node]) {
          return;  // of an attempt that was lost: the fence
        }
        Release(event.which);
        ++job.ended;
        ++ended_;
        return;
      }
      case Event::kFails:
        ++result_.node_failures;
        up_[event.which] = false;
        Push(60 * p_.detection_minutes, Event::kNoticed, event.which);
        Push(60 * std::max(p_.node_repair_minutes, p_.detection_minutes + 1), Event::kRepaired,
             event.which);
        failed_at_[event.which] = now_;
        return;
      case Event::kNoticed: {
        const std::vector<int64_t> lost = on_node_[event.which];
        for (const int64_t id : lost) {
          Job& job = jobs_[id];
          const double trained = failed_at_[event.which] - job.started;
          const double kept =
              std::floor(trained / (60 * p_.checkpoint_minutes)) * 60 * p_.checkpoint_minutes;
          Release(id);
          result_.lost_core_hours += job.cores * (now_ - job.started - kept) / 3600;
          ++result_.lost_attempts;
          job.done += kept;
          Enqueue(id);
        }
        return;
      }
      case Event::kRepaired:
        up_[event.which] = true;
        Push(TimeToFailure(), Event::kFails, event.which);
        return;
    }
  }

  const Parameters& p_;
  std::mt19937 random_;
  std::vector<Job> jobs_;
  std::vector<int> free_;  // cores, by node
  std::vector<bool> up_;
  size_t next_node_ = 0;
  std::map<int64_t, std::vector<int64_t>> on_node_;
  std::map<int64_t, double> failed_at_;
  std::priority_queue<Event> events_;
  std::map<std::string, server::QueuedJob> waiting_;
  server::Capacity capacity_;
  server::HeadHistory history_;
  server::ShareLedger ledger_;
  double now_ = 0;
  int64_t came_ = 0;
  int64_t ended_ = 0;
  int64_t running_ = 0;
  Result result_;
};

// True: every job ended exactly once.
bool Simulate(const Parameters& parameters, int servers) {
  Result all;
  double busiest_cores = 0;
  const double worker_cores = parameters.worker_cpu_percent / 100;
  for (int server = 0; server < servers; ++server) {
    const int64_t jobs =
        parameters.jobs * (server + 1) / servers - parameters.jobs * server / servers;
    const int nodes =
        parameters.nodes * (server + 1) / servers - parameters.nodes * server / servers;
    const Result one = Shard(parameters, jobs, nodes, parameters.seed + server).Run();
    all.hours = std::max(all.hours, one.hours);
    all.busy_core_hours += one.busy_core_hours;
    all.worker_hours += one.worker_hours;
    all.lost_core_hours += one.lost_core_hours;
    all.lost_attempts += one.lost_attempts;
    all.node_failures += one.node_failures;
    all.peak_workers = std::max(all.peak_workers, one.peak_workers);
    all.longest_wait_hours = std::max(all.longest_wait_hours, one.longest_wait_hours);
    all.longest_decision_ms = std::max(all.longest_decision_ms, one.longest_decision_ms);
    all.exactly_once = all.exactly_once && one.exactly_once;
    busiest_cores = std::max(busiest_cores, worker_cores * one.peak_workers +
                                                one.decide_cpu_seconds / (one.hours * 3600));
  }
  const double core_hours = all.hours * parameters.nodes * parameters.cores_per_node;
  // Of the busiest server; linear in its workers, as everything here that is about the cost of reporting.
  const double points = parameters.points_per_second * static_cast<double>(all.peak_workers);
  const double total_bytes =
      all.worker_hours * 3600 * parameters.points_per_second * parameters.point_bytes;
  std::printf(
      "%7d %8.1f %9d %9.2f %9.2f %8.0f%% %9.1f %9.2f %11.0f %8.1f%% %9d %9d %8.2f%% %9.1f  %s\n",
      servers, all.hours, static_cast<int>(all.peak_workers), busiest_cores, points / 1e6,
      100 * points / parameters.writer_points, points * parameters.point_bytes * 3600 / 1e9,
      total_bytes / 1e12, all.longest_decision_ms, 100 * all.busy_core_hours / core_hours,
      static_cast<int>(all.node_failures), static_cast<int>(all.lost_attempts),
      100 * all.lost_core_hours / all.busy_core_hours, all.longest_wait_hours,
      all.exactly_once ? "each once" : "LOST OR DOUBLED");
  std::fflush(stdout);
  return all.exactly_once;
}

}  // namespace
}  // namespace normlab::bench

int main(int argc, char** argv) {
  normlab::bench::Parameters parameters;
  CLI::App app("Simulates jobs on a cluster that fails, under the server's own scheduling policy");
  app.add_option("--jobs", parameters.jobs)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--nodes", parameters.nodes)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--cores_per_node", parameters.cores_per_node)
      ->capture_default_str()
      ->check(CLI::Range(4, 1024));
  app.add_option("--owners", parameters.owners)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--servers", parameters.servers, "Numbers of servers that share nodes and jobs")
      ->capture_default_str()
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--median_minutes", parameters.median_minutes, "Training of a job")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--node_mtbf_days", parameters.node_mtbf_days,
                 "Mean time between failures of a node")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--detection_minutes", parameters.detection_minutes,
                 "Until a failed node's attempts are known to be lost")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--checkpoint_minutes", parameters.checkpoint_minutes)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--worker_cpu_percent", parameters.worker_cpu_percent,
                 "Server CPU for a worker, measured by `service --rows workers`")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--points_per_second", parameters.points_per_second, "That a worker reports")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--writer_points", parameters.writer_points,
                 "That a server makes durable in a second, measured by `service --rows ingest`")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", parameters.seed)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  for (const int servers : parameters.servers) {
    if (servers > parameters.nodes || servers > parameters.jobs) {
      std::fprintf(stderr, "--servers=%d is more than there are nodes or jobs; use fewer\n",
                   servers);
      return 2;
    }
  }
  constexpr char kHead[] = "%7s %8s %9s %9s %9s %9s %9s %9s %11s %9s %9s %9s %9s %9s\n";
  std::printf(kHead, "servers", "hours", "workers", "cores", "Mpoints/s", "of the", "GB/hour", "TB",
              "decision ms", "busy", "failures", "attempts", "lost", "wait h");
  std::printf(kHead, "", "", "a server", "a server", "a server", "writer", "a server", "in all",
              "at most", "", "of nodes", "lost", "compute", "at most");
  bool kept = true;
  for (const int servers : parameters.servers) {
    kept = normlab::bench::Simulate(parameters, servers) && kept;
  }
  return kept ? 0 : 1;
}
