#include "data/safetensors_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "core/error.h"
#include "core/status.h"
#include "data/strict_json.h"

namespace lacuna {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "files are little endian");

constexpr char kMetadata[] = "__metadata__";
constexpr int kMaxDepth = 3;  // header, tensor, list
constexpr size_t kAlignment = 8;

struct ElementType {
  const char* name;
  int64_t bits;
};
constexpr ElementType kTypes[] = {
    {"BOOL", 8}, {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8},     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"I16", 16}, {"F8_E5M2FNUZ", 8}, {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32}, {"U32", 32},        {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64}, {"U64", 64}};

absl::Status TensorError(const std::string& file, const std::string& name,
                         const std::string& what) {
  return DataError("{}: tensor {}: {}", file, Shown(name), what);
}

// A whole number of at least 0 that 63 bits hold.
bool ReadSize(const json& value, int64_t* size) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) return false;
  *size = value.get<int64_t>();
  return true;
}

// dtype, shape and offsets, and that they agree.
absl::Status ReadEntry(const std::string& file, const std::string& name, const json& value,
                       SafetensorsEntry* entry) {
  entry->name = name;
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    return TensorError(
        file, name,
        "found " + Shown(value) + ", expected an object of dtype, shape and data_offsets");
  }
  const json &type = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
  const int rank = type.is_string() ? SafetensorsRank(type.get_ref<const std::string&>()) : -1;
  if (rank < 0) return TensorError(file, name, "has the unknown dtype " + Shown(type));
  entry->type = type.get<std::string>();
  if (!shape.is_array()) return TensorError(file, name, "has the shape " + Shown(shape));
  int64_t bits = kTypes[rank].bits;
  for (const json& dim : shape) {
    int64_t size = 0;
    if (!ReadSize(dim, &size))
      return TensorError(file, name, "has " + Shown(dim) + " in its shape");
    if (__builtin_mul_overflow(bits, size, &bits))
      return TensorError(file, name, "has more elements than 63 bits count");
    entry->shape.push_back(size);
  }
  if (bits % 8 != 0)
    return TensorError(file, name, fmt::format("has {} bits, which are no whole bytes", bits));
  if (!offsets.is_array() || offsets.size() != 2 || !ReadSize(offsets[0], &entry->begin) ||
      !ReadSize(offsets[1], &entry->end) || entry->begin > entry->end)
    return TensorError(file, name, "has the data_offsets " + Shown(offsets));
  if (entry->bytes() != bits / 8) {
    return TensorError(file, name,
                       fmt::format("has {} bytes by its data_offsets and {} by its shape",
                                   entry->bytes(), bits / 8));
  }
  return absl::OkStatus();
}

absl::Status ReadMetadata(const std::string& file, const json& value,
                          std::map<std::string, std::string>* metadata) {
  if (!value.is_object()) return DataError("{}: {} is not an object", file, kMetadata);
  for (auto entry = value.begin(); entry != value.end(); ++entry) {
    if (!entry.value().is_string())
      return DataError("{}: {}: {} is not a string", file, kMetadata, Shown(entry.key()));
    (*metadata)[entry.key()] = entry.value().get<std::string>();
  }
  return absl::OkStatus();
}

// No gaps, no overlaps, nothing behind the last.
absl::Status CheckLayout(const std::string& file, int64_t buffer_bytes,
                         std::vector<SafetensorsEntry>* tensors) {
  std::sort(tensors->begin(), tensors->end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  int64_t end = 0;
  for (const SafetensorsEntry& entry : *tensors) {
    if (entry.begin != end) {
      return TensorError(
          file, entry.name,
          fmt::format("starts at byte {} of the buffer, expected {}: tensors may not {}",
                      entry.begin, end, entry.begin < end ? "overlap" : "leave gaps"));
    }
    end = entry.end;
  }
  if (end == buffer_bytes) return absl::OkStatus();
  return DataError("{}: has {} bytes of tensors by its header and {} in the file", file, end,
                   buffer_bytes);
}

}  // namespace

int SafetensorsRank(std::string_view type) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const ElementType& t) { return t.name == type; });
  return found == std::end(kTypes) ? -1 : static_cast<int>(found - std::begin(kTypes));
}

std::string SafetensorsType(DType dtype) {
  std::string name = NameOf(dtype);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c); });
  return name;
}

std::optional<DType> DTypeOfSafetensors(std::string_view type) {
  for (const DType dtype :
       {DType::kF32, DType::kF64, DType::kBF16, DType::kI32, DType::kI64, DType::kU8}) {
    if (SafetensorsType(dtype) == type) return dtype;
  }
  return std::nullopt;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text,
                                                         int64_t buffer_bytes,
                                                         const std::string& file) {
  if (!text.starts_with('{')) return DataError("{}: the header does not start with '{{'", file);
  if (text[text.find_last_not_of(' ')] != '}')
    return DataError("{}: the header does not end with '}}' and spaces", file);
  LACUNA_ASSIGN_OR_RETURN(const json document, ParseStrictJson(text, file + ": header", kMaxDepth));
  SafetensorsHeader header;
  for (auto entry = document.begin(); entry != document.end(); ++entry) {
    if (entry.key() == kMetadata) {
      LACUNA_RETURN_IF_ERROR(ReadMetadata(file, entry.value(), &header.metadata));
    } else {
      LACUNA_RETURN_IF_ERROR(
          ReadEntry(file, entry.key(), entry.value(), &header.tensors.emplace_back()));
    }
  }
  LACUNA_RETURN_IF_ERROR(CheckLayout(file, buffer_bytes, &header.tensors));
  return header;
}

std::string FormatSafetensorsHeader(const SafetensorsHeader& header) {
  ordered_json document = ordered_json::object();
  if (!header.metadata.empty()) document[kMetadata] = header.metadata;
  for (const SafetensorsEntry& entry : header.tensors) {
    document[entry.name] = {
        {"dtype", entry.type}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = document.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  LACUNA_CHECK(static_cast<int64_t>(text.size()) <= kSafetensorsMaxHeader,
               "a safetensors header of {} bytes", text.size());
  const uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

}  // namespace lacuna
