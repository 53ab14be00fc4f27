#include "distributed/datagram_socket.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "distributed/communicator.h"

namespace lacuna {
namespace {

sockaddr* Generic(sockaddr_in& address) {
  return reinterpret_cast<sockaddr*>(&address);
}

[[noreturn]] void Fail(const char* call) {
  throw CommunicationError(fmt::format("watchdog: {}: {}", call, std::strerror(errno)));
}

}  // namespace

DatagramSocket::DatagramSocket() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  if (fd_ < 0) Fail("socket");
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_ANY);
  if (::bind(fd_, Generic(any), sizeof(any)) != 0) Fail("bind");
}

DatagramSocket::~DatagramSocket() {
  ::close(fd_);
}

DatagramAddress DatagramSocket::address() const {
  DatagramAddress result;
  sockaddr_in own = {};
  socklen_t length = sizeof(own);
  if (::getsockname(fd_, Generic(own), &length) != 0) Fail("getsockname");
  result.port = ntohs(own.sin_port);
  ifaddrs* interfaces = nullptr;
  if (::getifaddrs(&interfaces) != 0) Fail("getifaddrs");
  for (const ifaddrs* one = interfaces; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    char text[INET_ADDRSTRLEN] = "";
    const auto* address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    if (::inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text)) != nullptr)
      result.ips.emplace_back(text);
  }
  ::freeifaddrs(interfaces);
  return result;
}

std::optional<DatagramSocket::Datagram> DatagramSocket::Receive(double seconds) {
  pollfd wait = {fd_, POLLIN, 0};
  if (::poll(&wait, 1, static_cast<int>(seconds * 1000)) <= 0) return std::nullopt;
  std::string text(65536, '\0');
  sockaddr_in from = {};
  socklen_t length = sizeof(from);
  const ssize_t bytes =
      ::recvfrom(fd_, text.data(), text.size(), MSG_DONTWAIT, Generic(from), &length);
  if (bytes < 0) return std::nullopt;
  text.resize(static_cast<size_t>(bytes));
  return Datagram{std::move(text), {reinterpret_cast<const char*>(&from), sizeof(from)}};
}

void DatagramSocket::Send(const std::string& text, const DatagramAddress& to) {
  for (const std::string& ip : to.ips) {
    sockaddr_in target = {};
    target.sin_family = AF_INET;
    target.sin_port = htons(static_cast<uint16_t>(to.port));
    if (::inet_pton(AF_INET, ip.c_str(), &target.sin_addr) != 1) continue;
    static_cast<void>(
        ::sendto(fd_, text.data(), text.size(), MSG_DONTWAIT, Generic(target), sizeof(target)));
  }
}

void DatagramSocket::Reply(const std::string& text, const Datagram& to) {
  static_cast<void>(::sendto(fd_, text.data(), text.size(), MSG_DONTWAIT,
                             reinterpret_cast<const sockaddr*>(to.from.data()),
                             static_cast<socklen_t>(to.from.size())));
}

}  // namespace lacuna
