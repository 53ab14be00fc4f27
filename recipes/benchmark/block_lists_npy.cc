// Block lists as NumPy's arrays: "\x93NUMPY", version 1.0, the header's length (2 bytes), a Python
// dict in ASCII that ends in a line feed, the numbers.
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/io/file.h"
#include "core/status.h"
#include "recipes/benchmark/block_lists.h"

namespace lacuna {
namespace {

constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
constexpr size_t kPrefix = kMagic.size() + 2, kAlignment = 64;
constexpr int64_t kMaxBytes = int64_t{4} << 30;
static_assert(std::endian::native == std::endian::little);

// The text behind `key` in the dict, from the first character that is not a blank.
std::string_view After(std::string_view dict, std::string_view key) {
  const size_t at = dict.find(key);
  if (at == std::string_view::npos) return {};
  dict.remove_prefix(at + key.size());
  dict.remove_prefix(std::min(dict.size(), dict.find_first_not_of(' ')));
  return dict;
}

// "(3, 4, 5)" at the beginning of `text`.
bool ParseShape(std::string_view text, int64_t (&shape)[3]) {
  for (int i = 0; i < 3; ++i) {
    const std::string_view before = i == 0 ? "(" : ", ";
    if (!text.starts_with(before)) return false;
    text.remove_prefix(before.size());
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), shape[i]);
    if (error != std::errc() || shape[i] < 1 || shape[i] > (int64_t{1} << 30)) return false;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  return text.starts_with(")");
}

// Empty where the lists are what a selection gives.
std::string WhatIsWrong(const BlockLists& lists, int64_t select_block) {
  for (int64_t row = 0; row < lists.tokens * lists.groups; ++row) {
    const int64_t own = row / lists.groups / select_block;
    const int32_t* list = lists.blocks.data() + row * lists.places;
    for (int64_t i = 0; i < lists.places; ++i) {
      const bool ended = i > 0 && list[i - 1] < 0;
      if (list[i] < -1 || list[i] > own || (list[i] >= 0 && i > 0 && list[i] <= list[i - 1]) ||
          (ended && list[i] >= 0))
        return fmt::format(
            "token {}, group {}: block {} in place {}; blocks of {} tokens must ascend to at most "
            "{}, with -1 behind the last",
            row / lists.groups, row % lists.groups, list[i], i, select_block, own);
    }
  }
  return {};
}

absl::StatusOr<BlockLists> Parse(const std::string& path, std::string_view bytes,
                                 int64_t select_block) {
  const auto refuse = [&](std::string_view what) {
    return DataError("{}: {}: must be an .npy file (version 1.0) of int16 [tokens, groups, places]",
                     path, what);
  };
  if (!bytes.starts_with(kMagic) || bytes.size() < kPrefix)
    return refuse("no NumPy file of this version");
  const size_t length = static_cast<uint8_t>(bytes[8]) + 256 * static_cast<uint8_t>(bytes[9]);
  if (bytes.size() < kPrefix + length) return refuse("cut short");
  const std::string_view dict = bytes.substr(kPrefix, length);
  int64_t shape[3];
  if (!After(dict, "'descr':").starts_with("'<i2'") ||
      !After(dict, "'fortran_order':").starts_with("False") ||
      !ParseShape(After(dict, "'shape':"), shape))
    return refuse("the header is " + OneLine(dict, 200));
  BlockLists lists{shape[0], shape[1], shape[2], {}};
  const auto data = static_cast<int64_t>(bytes.size() - kPrefix - length);
  if (shape[1] * shape[2] > kMaxBytes / shape[0] ||
      data != shape[0] * shape[1] * shape[2] * int64_t{sizeof(int16_t)})
    return refuse(
        fmt::format("{} bytes of numbers for {} x {} x {}", data, shape[0], shape[1], shape[2]));
  std::vector<int16_t> narrow(static_cast<size_t>(data) / sizeof(int16_t));
  std::memcpy(narrow.data(), bytes.data() + kPrefix + length, static_cast<size_t>(data));
  lists.blocks.assign(narrow.begin(), narrow.end());
  if (const std::string wrong = WhatIsWrong(lists, select_block); !wrong.empty())
    return DataError("{}: {}", path, wrong);
  return lists;
}

}  // namespace

std::string ToNpy(const BlockLists& lists) {
  std::string dict =
      fmt::format("{{'descr': '<i2', 'fortran_order': False, 'shape': ({}, {}, {}), }}",
                  lists.tokens, lists.groups, lists.places);
  dict.append(kAlignment - 1 - (kPrefix + dict.size()) % kAlignment, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += static_cast<char>(dict.size() % 256);
  out += static_cast<char>(dict.size() / 256);
  out += dict;
  std::vector<int16_t> narrow(lists.blocks.begin(), lists.blocks.end());
  out.append(reinterpret_cast<const char*>(narrow.data()), narrow.size() * sizeof(int16_t));
  return out;
}

absl::StatusOr<BlockLists> ReadNpyLists(const std::string& path, int64_t select_block) {
  const absl::StatusOr<std::string> bytes = ReadFile(path, kMaxBytes, ExitCode::kData);
  if (!bytes.ok()) return bytes.status();
  return Parse(path, *bytes, select_block);
}

}  // namespace lacuna
