#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "distributed/message_communicator.h"

namespace lacuna {
namespace {

// MPI counts are ints; longer messages travel as several of one tag, which MPI keeps in order.
constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;

std::string MpiErrorText(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(error, text, &length) != MPI_SUCCESS)
    return fmt::format("MPI error {}", error);
  return std::string(text, static_cast<size_t>(length));
}

void CheckMpi(int error, const char* what) {
  if (error != MPI_SUCCESS)
    throw CommunicationError(fmt::format("{}: {}", what, MpiErrorText(error)));
}

class MpiMessage : public Transport::Message {
 public:
  MpiMessage(int peer, bool receive) : peer_(peer), receive_(receive) {}
  bool Done() override;

  struct Piece {
    MPI_Request request;
    int bytes;
  };
  std::vector<Piece> pieces;

 private:
  int peer_;
  bool receive_;
};

bool MpiMessage::Done() {
  while (!pieces.empty()) {
    Piece& piece = pieces.back();
    int done = 0, got = 0;
    MPI_Status status;
    const int error = MPI_Test(&piece.request, &done, &status);
    int error_class = MPI_SUCCESS;
    if (error != MPI_SUCCESS) MPI_Error_class(error, &error_class);
    if (error_class == MPI_ERR_TRUNCATE) {
      throw CommunicationError(fmt::format(
          "rank {} sent more than the {} bytes expected: ranks differ in shapes or order", peer_,
          piece.bytes));
    }
    CheckMpi(error, "MPI_Test");
    if (!done) return false;
    if (receive_) {
      CheckMpi(MPI_Get_count(&status, MPI_BYTE, &got), "MPI_Get_count");
      if (got != piece.bytes) {
        throw CommunicationError(
            fmt::format("rank {} sent {} bytes, expected {}: ranks differ in shapes or order",
                        peer_, got, piece.bytes));
      }
    }
    pieces.pop_back();
  }
  return true;
}

// MPI itself, ended with the last communicator. With a request that failed no communicator is freed
// and MPI is not ended: both are collective, and with a peer missing they would wait for ever.
struct MpiSession {
  ~MpiSession() {
    if (finalize && !given_up) MPI_Finalize();
  }
  bool finalize = false;
  bool given_up = false;
};

class MpiTransport : public Transport {
 public:
  // Takes over `comm`.
  MpiTransport(std::shared_ptr<MpiSession> session, MPI_Comm comm)
      : session_(std::move(session)), comm_(comm) {
    CheckMpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    CheckMpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    CheckMpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    MPI_Group group, world;
    CheckMpi(MPI_Comm_group(comm_, &group), "MPI_Comm_group");
    CheckMpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
    std::vector<int> ranks(static_cast<size_t>(size_));
    std::iota(ranks.begin(), ranks.end(), 0);
    world_ranks_.resize(ranks.size());
    CheckMpi(MPI_Group_translate_ranks(group, size_, ranks.data(), world, world_ranks_.data()),
             "MPI_Group_translate_ranks");
    MPI_Group_free(&group);
    MPI_Group_free(&world);
  }
  ~MpiTransport() override {
    if (!session_->given_up) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int WorldRank(int rank) const override { return world_ranks_[static_cast<size_t>(rank)]; }

  std::unique_ptr<Transport> Split(const std::vector<int>& members) override {
    MPI_Comm part = MPI_COMM_NULL;
    CheckMpi(MPI_Comm_split(comm_, members.front(), rank_, &part), "MPI_Comm_split");
    return std::make_unique<MpiTransport>(session_, part);
  }
  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override {
    return Post(to, false, bytes, [&](int64_t offset, int count, MPI_Request* request) {
      return MPI_Isend(static_cast<const char*>(data) + offset, count, MPI_BYTE, to, tag, comm_,
                       request);
    });
  }
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override {
    return Post(from, true, bytes, [&](int64_t offset, int count, MPI_Request* request) {
      return MPI_Irecv(static_cast<char*>(data) + offset, count, MPI_BYTE, from, tag, comm_,
                       request);
    });
  }
  void Abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    ::_exit(exit_code);  // a library that returns from MPI_Abort
  }
  void GiveUp() override { session_->given_up = true; }

 private:
  template <class F>
  std::unique_ptr<Message> Post(int peer, bool receive, int64_t bytes, F&& post) {
    auto message = std::make_unique<MpiMessage>(WorldRank(peer), receive);
    int64_t offset = 0;
    do {
      const int count = static_cast<int>(std::min(bytes - offset, kMaxMessageBytes));
      message->pieces.push_back({MPI_REQUEST_NULL, count});
      CheckMpi(post(offset, count, &message->pieces.back().request),
               receive ? "MPI_Irecv" : "MPI_Isend");
      offset += count;
    } while (offset < bytes);
    return message;
  }

  std::shared_ptr<MpiSession> session_;
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<int> world_ranks_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeMpiTransport() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (!initialized) {
    int provided = 0;
    const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    if (error != MPI_SUCCESS)
      return MakeError(ExitCode::kHardware, "MPI does not start: " + MpiErrorText(error));
    if (provided < MPI_THREAD_FUNNELED)
      return MakeError(ExitCode::kHardware, "MPI was built without support of threads");
  }
  auto session = std::make_shared<MpiSession>();
  session->finalize = !initialized;
  MPI_Comm comm = MPI_COMM_NULL;
  if (const int error = MPI_Comm_dup(MPI_COMM_WORLD, &comm); error != MPI_SUCCESS)
    return MakeError(ExitCode::kHardware, "MPI_Comm_dup: " + MpiErrorText(error));
  return std::make_unique<MpiTransport>(std::move(session), comm);
}

namespace {

absl::StatusOr<double> TimeoutOfEnvironment(double otherwise) {
  const char* text = std::getenv("LACUNA_TIMEOUT_SECONDS");
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds > 0 && seconds < 1e6))
    return ConfigError("LACUNA_TIMEOUT_SECONDS={}: expected seconds above 0", OneLine(text, 40));
  return seconds;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeCommunicator(double timeout_seconds) {
  // Open MPI's mpirun, other MPIs' PMI, PMIx of srun: without one of them MPI_Init would start a
  // daemon for this process alone.
  bool launched = false;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
    launched |= std::getenv(name) != nullptr;
  if (!launched) return MakeSelfCommunicator();
  LACUNA_ASSIGN_OR_RETURN(const double timeout, TimeoutOfEnvironment(timeout_seconds));
  LACUNA_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, MakeMpiTransport());
  std::unique_ptr<Communicator> comm = MakeMessageCommunicator(std::move(transport));
  comm->set_timeout_seconds(timeout);
  return comm;
}

}  // namespace lacuna
