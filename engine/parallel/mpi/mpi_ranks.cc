// The C interface only: the C++ bindings of old are neither needed nor linked.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include "engine/parallel/mpi/mpi_ranks.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "engine/parallel/segments.h"

namespace normlab::engine {
namespace {

// A sum over ranks in two exchanges: every rank gets everybody's part of its own segment and adds
// them up in the order of ranks; then everybody gets everybody's segment. That is as many bytes as
// any all-reduce sends (2 (k-1)/k of the values), and the order of summation is ours: MPI_Allreduce
// promises none.
class SegmentedSum {
 public:
  SegmentedSum(MPI_Comm comm, int tag, float* values, int64_t count)
      : comm_(comm), tag_(tag), values_(values), count_(count) {
    MPI_Comm_rank(comm, &rank_);
    MPI_Comm_size(comm, &size_);
    parts_.resize(static_cast<size_t>(size_ - 1) * static_cast<size_t>(Mine().count));
    requests_.reserve(2 * static_cast<size_t>(size_ - 1));
  }

  bool idle() const { return stage_ == Stage::kIdle; }

  void Start() {
    stage_ = Stage::kScatter;
    float* part = parts_.data();
    ForOthers([&](int other) {
      Receive(part, Mine().count, other, tag_);
      part += Mine().count;
    });
    ForOthers([&](int other) {
      const Segment theirs = SegmentOf(count_, other, size_);
      Send(values_ + theirs.first, theirs.count, other, tag_);
    });
    Advance();
  }

  // True when something went on.
  bool Advance() {
    int done = 0;
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done == 0) {
      return false;
    }
    requests_.clear();
    if (stage_ == Stage::kGather) {
      stage_ = Stage::kIdle;
      return true;
    }
    AddParts();
    stage_ = Stage::kGather;
    // Everybody has what was sent from here, so it may be overwritten.
    ForOthers([&](int other) {
      const Segment theirs = SegmentOf(count_, other, size_);
      Receive(values_ + theirs.first, theirs.count, other, tag_ + 1);
    });
    ForOthers([&](int other) { Send(values_ + Mine().first, Mine().count, other, tag_ + 1); });
    return true;
  }

 private:
  enum class Stage { kIdle, kScatter, kGather };

  Segment Mine() const { return SegmentOf(count_, rank_, size_); }

  template <typename Do>
  void ForOthers(const Do& action) const {
    // Each begins with its right neighbour, so that not all talk to rank 0 first. Parts lie in this
    // order too.
    for (int i = 1; i < size_; ++i) {
      action((rank_ + i) % size_);
    }
  }

  void Receive(float* to, int64_t count, int from, int tag) {
    if (count > 0) {
      MPI_Irecv(to, static_cast<int>(count), MPI_FLOAT, from, tag, comm_,
                &requests_.emplace_back());
    }
  }
  void Send(const float* from, int64_t count, int to, int tag) {
    if (count > 0) {
      MPI_Isend(from, static_cast<int>(count), MPI_FLOAT, to, tag, comm_,
                &requests_.emplace_back());
    }
  }

  const float* PartOf(int rank) const {
    const Segment mine = Mine();
    return rank == rank_ ? values_ + mine.first
                         : parts_.data() + ((rank - rank_ + size_) % size_ - 1) * mine.count;
  }

  void AddParts() {
    constexpr int64_t kBlock = 2048;  // stays in the first-level cache
    std::array<float, kBlock> block;
    const Segment mine = Mine();
    for (int64_t begin = 0; begin < mine.count; begin += kBlock) {
      const int64_t count = std::min(kBlock, mine.count - begin);
      std::copy_n(PartOf(0) + begin, count, block.begin());
      for (int rank = 1; rank < size_; ++rank) {
        const float* part = PartOf(rank) + begin;
        for (int64_t i = 0; i < count; ++i) {
          block[static_cast<size_t>(i)] += part[i];
        }
      }
      std::copy_n(block.begin(), count, values_ + mine.first + begin);
    }
  }

  const MPI_Comm comm_;
  const int tag_;
  float* const values_;
  const int64_t count_;
  int rank_ = 0;
  int size_ = 1;
  Stage stage_ = Stage::kIdle;
  std::vector<float> parts_;  // of the others, of this rank's segment, in the order of ForOthers
  std::vector<MPI_Request> requests_;
};

class MpiCommunicator final : public Communicator {
 public:
  // Takes the communicator over.
  explicit MpiCommunicator(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_rank(comm, &rank_);
    MPI_Comm_size(comm, &size_);
  }
  ~MpiCommunicator() override { MPI_Comm_free(&comm_); }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void AllGather(const void* mine, void* all, size_t bytes) override {
    MPI_Allgather(mine, static_cast<int>(bytes), MPI_BYTE, all, static_cast<int>(bytes), MPI_BYTE,
                  comm_);
  }

  void Broadcast(void* data, size_t bytes) override {
    MPI_Bcast(data, static_cast<int>(bytes), MPI_BYTE, /*root=*/0, comm_);
  }

  int PlanSum(float* values, int64_t count) override {
    const auto number = static_cast<int>(sums_.size());
    sums_.emplace_back(comm_, 2 * number, values, count);
    begun_.reserve(sums_.size());
    return number;
  }

  void StartSum(int sum) override {
    SegmentedSum& begun = sums_[static_cast<size_t>(sum)];
    begun_.push_back(&begun);
    begun.Start();
  }

  void Progress() override { Advance(); }

  void FinishSums() override {
    while (!begun_.empty()) {
      if (!Advance()) {
        // Costs nothing on a core of one's own; elsewhere the others need it.
        std::this_thread::yield();
      }
    }
  }

  std::unique_ptr<Communicator> Split(int group_size) override {
    MPI_Comm group = MPI_COMM_NULL;
    MPI_Comm_split(comm_, rank_ / group_size, rank_, &group);
    return std::make_unique<MpiCommunicator>(group);
  }

 private:
  bool Advance() {
    bool any = false;
    for (SegmentedSum* sum : begun_) {
      any |= sum->Advance();
    }
    begun_.erase(std::remove_if(begun_.begin(), begun_.end(),
                                [](const SegmentedSum* sum) { return sum->idle(); }),
                 begun_.end());
    return any;
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::deque<SegmentedSum> sums_;  // they stay where they are
  std::vector<SegmentedSum*> begun_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MpiRanks>> MpiRanks::Start() {
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_FUNNELED) {
    return absl::InternalError(
        "MPI could not be initialized for a process with several threads; start the ranks with "
        "mpirun or srun --mpi=pmix of the MPI that this program was built with");
  }
  return std::unique_ptr<MpiRanks>(new MpiRanks());
}

MpiRanks::~MpiRanks() {
  MPI_Finalize();
}

std::unique_ptr<Communicator> MpiRanks::World() {
  MPI_Comm copy = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &copy);
  return std::make_unique<MpiCommunicator>(copy);
}

}  // namespace normlab::engine
