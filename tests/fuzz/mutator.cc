#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstring>

namespace lacuna::test {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;

class Mutator {
 public:
  Mutator(std::string bytes, const std::string& other, const std::vector<std::string_view>& words,
          std::mt19937_64& random)
      : bytes_(std::move(bytes)), other_(other), words_(words), random_(random) {}

  void Edit() {
    if (bytes_.empty()) return Put(words_.empty() ? "x" : words_[Below(words_.size())]);
    switch (Below(12)) {
      case 0:
        bytes_[Place()] ^= static_cast<char>(1 << Below(8));
        break;
      case 1:
        bytes_[Place()] = static_cast<char>(random_());
        break;
      case 2:
        bytes_.erase(Place(), Length());
        break;
      case 3:
        Put(bytes_.substr(Place(), Length()));
        break;
      case 4:
        bytes_.resize(Place());
        break;
      case 5:
        Exchange();
        break;
      case 6:
      case 7:
        BinaryNumber();
        break;
      case 8:
        Digits();
        break;
      case 9:
        Put(other_.substr(std::min(other_.size(), Place()), Length()));
        break;
      default:
        if (!words_.empty()) Put(words_[Below(words_.size())]);
    }
    if (bytes_.size() > kMaxBytes) bytes_.resize(kMaxBytes);
  }

  std::string Take() { return std::move(bytes_); }

 private:
  size_t Below(size_t n) { return static_cast<size_t>(random_() % n); }
  // Beginnings and ends, where headers and trailers are, more often than the rest.
  size_t Place() {
    const size_t near = std::min<size_t>(bytes_.size(), 64);
    switch (Below(4)) {
      case 0:
        return Below(near);
      case 1:
        return bytes_.size() - 1 - Below(near);
      default:
        return Below(bytes_.size());
    }
  }
  size_t Length() { return size_t{1} << Below(10); }

  // Into the bytes, or over them.
  void Put(std::string_view piece) {
    const size_t at = bytes_.empty() ? 0 : Place();
    bytes_.replace(at, Below(2) == 0 ? 0 : piece.size(), piece);
  }

  void Exchange() {
    const size_t a = Place(), b = Place(),
                 length = std::min({Length(), bytes_.size() - a, bytes_.size() - b});
    for (size_t i = 0; i < length; ++i) std::swap(bytes_[a + i], bytes_[b + i]);
  }

  int64_t Number() {
    const int64_t numbers[] = {0,
                               1,
                               -1,
                               INT32_MAX,
                               INT32_MIN,
                               INT64_MAX,
                               INT64_MIN,
                               int64_t{1} << 32,
                               static_cast<int64_t>(bytes_.size()),
                               static_cast<int64_t>(random_() >> Below(64))};
    return numbers[Below(std::size(numbers))];
  }

  void BinaryNumber() {
    const size_t size = std::min(size_t{1} << Below(4), bytes_.size());
    const size_t at = std::min(Place(), bytes_.size() - size);
    uint64_t value = 0;
    std::memcpy(&value, bytes_.data() + at, size);
    // Off by a little, or something else altogether.
    value = Below(2) == 0 ? value + Below(5) - 2 : static_cast<uint64_t>(Number());
    std::memcpy(bytes_.data() + at, &value, size);
  }

  void Digits() {
    const size_t from = Place();
    const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
    const auto begin =
        std::find_if(bytes_.begin() + static_cast<int64_t>(from), bytes_.end(), is_digit);
    const auto end = std::find_if_not(begin, bytes_.end(), is_digit);
    if (begin == end) return;
    static constexpr const char* kTexts[] = {"-",     "1e9", "0x1", "00", "1.5",
                                             "1e999", "nan", "9",   "",   "18446744073709551616"};
    const std::string text =
        Below(2) == 0 ? std::to_string(Number()) : std::string(kTexts[Below(std::size(kTexts))]);
    bytes_.replace(begin, end, text);
  }

  std::string bytes_;
  const std::string& other_;
  const std::vector<std::string_view>& words_;
  std::mt19937_64& random_;
};

}  // namespace

std::string Mutate(std::string bytes, const std::string& other,
                   const std::vector<std::string_view>& words, std::mt19937_64& random) {
  Mutator mutator(std::move(bytes), other, words, random);
  const uint64_t edits = random() % 2 == 0 ? 1 : 1 + random() % 4;
  for (uint64_t i = 0; i < edits; ++i) mutator.Edit();
  return mutator.Take();
}

}  // namespace lacuna::test
