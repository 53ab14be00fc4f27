// UDP between the hosts of a run: messages that need no connection and no help of the peer's main
// thread, and that may be lost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lacuna {

// Where a socket can be reached.
struct DatagramAddress {
  std::vector<std::string> ips;  // IPv4, of all the host's interfaces
  int port = 0;
};

class DatagramSocket {
 public:
  // Of any free port. Throws CommunicationError.
  DatagramSocket();
  ~DatagramSocket();
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  DatagramAddress address() const;
  int fd() const { return fd_; }

  struct Datagram {
    std::string text;
    std::string from;  // for Reply
  };
  // A message that has arrived within `seconds`.
  std::optional<Datagram> Receive(double seconds);
  // Errors are ignored: it is as if the message were lost.
  void Send(const std::string& text, const DatagramAddress& to);
  void Reply(const std::string& text, const Datagram& to);

 private:
  int fd_ = -1;
};

}  // namespace lacuna
