#include "tests/support/npz.h"

#include <cstring>
#include <fstream>
#include <iterator>

namespace lacuna::test {
namespace {

template <class T>
T Read(const std::string& bytes, size_t offset) {
  LACUNA_CHECK(offset + sizeof(T) <= bytes.size(), "npz: ends at byte {}", bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <class T>
std::vector<double> Numbers(const std::string& data, size_t offset, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(
        static_cast<double>(Read<T>(data, offset + static_cast<size_t>(i) * sizeof(T))));
  return values;
}

// Value of 'key' in the header's Python dict literal, up to `end`.
std::string Field(const std::string& header, const std::string& key, char begin, char end) {
  const size_t at = header.find("'" + key + "'");
  LACUNA_CHECK(at != std::string::npos, "npy: no {} in {}", key, header);
  const size_t first = header.find(begin, at + key.size() + 2) + 1;
  return header.substr(first, header.find(end, first) - first);
}

NpzArray ParseNpy(const std::string& npy) {
  LACUNA_CHECK(npy.compare(0, 6, "\x93NUMPY") == 0, "npy: no magic");
  const size_t length = npy[6] == 1 ? Read<uint16_t>(npy, 8) : Read<uint32_t>(npy, 8),
               start = (npy[6] == 1 ? 10 : 12) + length;
  const std::string header = npy.substr(start - length, length),
                    dtype = Field(header, "descr", '\'', '\''),
                    shape = Field(header, "shape", '(', ')');
  LACUNA_CHECK(header.find("'fortran_order': False") != std::string::npos, "npy: {}", header);
  NpzArray array;
  for (size_t i = 0; i < shape.size();) {
    size_t used = 0;
    if (shape[i] == ',' || shape[i] == ' ') {
      ++i;
      continue;
    }
    array.shape.push_back(std::stoll(shape.substr(i), &used));
    i += used;
  }
  const int64_t count = NumElements(array.shape);
  if (dtype == "<f8") {
    array.values = Numbers<double>(npy, start, count);
  } else if (dtype == "<f4") {
    array.values = Numbers<float>(npy, start, count);
  } else if (dtype == "<i4") {
    array.values = Numbers<int32_t>(npy, start, count);
  } else if (dtype == "<i8") {
    array.values = Numbers<int64_t>(npy, start, count);
  } else {
    LACUNA_CHECK(dtype.compare(0, 2, "<U") == 0, "npy: dtype {}", dtype);
    for (size_t i = start; i + 4 <= npy.size(); i += 4)
      array.text.push_back(static_cast<char>(Read<uint32_t>(npy, i)));
  }
  return array;
}

}  // namespace

std::map<std::string, NpzArray> ReadNpz(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  LACUNA_CHECK(file.good(), "cannot open {}", path);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::map<std::string, NpzArray> arrays;
  // The central directory has the sizes (NumPy leaves them out of the local headers); it is found
  // through the end record.
  size_t entry = Read<uint32_t>(bytes, bytes.rfind("PK\x05\x06") + 16);
  while (bytes.compare(entry, 4, "PK\x01\x02") == 0) {
    LACUNA_CHECK(Read<uint16_t>(bytes, entry + 10) == 0, "{}: compressed", path);
    const size_t size = Read<uint32_t>(bytes, entry + 24),
                 name_length = Read<uint16_t>(bytes, entry + 28);
    const size_t extra = Read<uint16_t>(bytes, entry + 30),
                 comment = Read<uint16_t>(bytes, entry + 32),
                 local = Read<uint32_t>(bytes, entry + 42);
    const std::string name = bytes.substr(entry + 46, name_length);
    const size_t data =
        local + 30 + Read<uint16_t>(bytes, local + 26) + Read<uint16_t>(bytes, local + 28);
    arrays[name.substr(0, name.rfind(".npy"))] = ParseNpy(bytes.substr(data, size));
    entry += 46 + name_length + extra + comment;
  }
  return arrays;
}

}  // namespace lacuna::test
