#include "recipes/trainer/event_file.h"

#include <array>
#include <chrono>
#include <cstring>

#include "core/host_name.h"
#include "core/status.h"

namespace lacuna {
namespace {

std::array<uint32_t, 256> Crc32cTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}

// Protocol-buffer wire format: only what an Event with scalar values needs.
void AppendVarint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}
void AppendTag(std::string& out, int field, int wire_type) {
  AppendVarint(out, static_cast<uint64_t>(field << 3 | wire_type));
}
template <class T>
void AppendFixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void AppendBytes(std::string& out, int field, const std::string& bytes) {
  AppendTag(out, field, 2);
  AppendVarint(out, bytes.size());
  out += bytes;
}

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

uint32_t MaskedCrc32c(const std::string& data) {
  static const std::array<uint32_t, 256> table = Crc32cTable();
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : data) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  crc ^= 0xFFFFFFFFu;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

absl::StatusOr<EventFile> EventFile::Create(const std::string& directory) {
  const std::string path = fmt::format("{}/events.out.tfevents.{}.{}", directory,
                                       static_cast<int64_t>(WallTime()), HostName());
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return ConfigError("{}: cannot create: {}", path, std::strerror(errno));
  EventFile events(file);
  std::string event;  // Event {1: double wall_time, 3: string file_version}
  AppendTag(event, 1, 1);
  AppendFixed(event, WallTime());
  AppendBytes(event, 3, "brain.Event:2");
  events.WriteRecord(event);
  return events;
}

EventFile& EventFile::operator=(EventFile&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

EventFile::~EventFile() {
  if (file_ != nullptr) std::fclose(file_);
}

bool EventFile::WriteRecord(const std::string& payload) {
  std::string record;
  AppendFixed(record, static_cast<uint64_t>(payload.size()));
  AppendFixed(record, MaskedCrc32c(record));
  record += payload;
  AppendFixed(record, MaskedCrc32c(payload));
  return std::fwrite(record.data(), 1, record.size(), file_) == record.size() &&
         std::fflush(file_) == 0;
}

bool EventFile::Write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;  // Summary {1: repeated Value {1: tag, 2: float simple_value}}
  for (const auto& [name, number] : scalars) {
    std::string value;
    AppendBytes(value, 1, name);
    AppendTag(value, 2, 5);
    AppendFixed(value, static_cast<float>(number));
    AppendBytes(summary, 1, value);
  }
  std::string event;  // Event {1: double wall_time, 2: int64 step, 5: Summary}
  AppendTag(event, 1, 1);
  AppendFixed(event, WallTime());
  AppendTag(event, 2, 0);
  AppendVarint(event, static_cast<uint64_t>(step));
  AppendBytes(event, 5, summary);
  return WriteRecord(event);
}

}  // namespace lacuna
