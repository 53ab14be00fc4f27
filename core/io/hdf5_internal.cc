#include "core/io/hdf5_internal.h"

#include "core/error.h"

namespace lacuna {

int64_t SizeOf(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::kU8:
    case Hdf5Type::kI8:
      return 1;
    case Hdf5Type::kU16:
    case Hdf5Type::kBF16:
      return 2;
    case Hdf5Type::kU32:
    case Hdf5Type::kI32:
    case Hdf5Type::kF32:
      return 4;
    case Hdf5Type::kU64:
    case Hdf5Type::kI64:
    case Hdf5Type::kF64:
      return 8;
  }
  return 0;
}

const char* NameOf(Hdf5Type type) {
  static constexpr const char* kNames[] = {"u8",  "i8",  "u16",  "u32", "u64",
                                           "i32", "i64", "bf16", "f32", "f64"};
  return kNames[static_cast<size_t>(type)];
}

Hdf5Type ToHdf5Type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Hdf5Type::kF32;
    case DType::kF64:
      return Hdf5Type::kF64;
    case DType::kBF16:
      return Hdf5Type::kBF16;
    case DType::kI32:
      return Hdf5Type::kI32;
    case DType::kI64:
      return Hdf5Type::kI64;
    case DType::kU8:
      return Hdf5Type::kU8;
  }
  LACUNA_CHECK(false, "no HDF5 type for {}", NameOf(dtype));
}

namespace hdf5 {
namespace {

constexpr Hdf5Type kAllTypes[] = {Hdf5Type::kU8,  Hdf5Type::kI8,  Hdf5Type::kU16, Hdf5Type::kU32,
                                  Hdf5Type::kU64, Hdf5Type::kI32, Hdf5Type::kI64, Hdf5Type::kBF16,
                                  Hdf5Type::kF32, Hdf5Type::kF64};

}  // namespace

std::unique_lock<std::recursive_mutex> Lock() {
  static std::recursive_mutex mutex;
  std::unique_lock<std::recursive_mutex> lock(mutex);
  [[maybe_unused]] static const bool configured = [] {
    // Plugins are code that a file can ask for. A library built without them fails here, which is
    // as good.
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);
    return true;
  }();
  // Per thread in thread-safe builds of the library.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  return lock;
}

std::string LastError() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
        *static_cast<std::string*>(data) = error->desc == nullptr ? "" : error->desc;
        return 1;  // the first one walking upward is the innermost
      },
      &text);
  H5Eclear2(H5E_DEFAULT);
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text.empty() ? "unknown HDF5 error" : text;
}

Id MakeType(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::kU8:
      return Id(H5Tcopy(H5T_STD_U8LE));
    case Hdf5Type::kI8:
      return Id(H5Tcopy(H5T_STD_I8LE));
    case Hdf5Type::kU16:
      return Id(H5Tcopy(H5T_STD_U16LE));
    case Hdf5Type::kU32:
      return Id(H5Tcopy(H5T_STD_U32LE));
    case Hdf5Type::kU64:
      return Id(H5Tcopy(H5T_STD_U64LE));
    case Hdf5Type::kI32:
      return Id(H5Tcopy(H5T_STD_I32LE));
    case Hdf5Type::kI64:
      return Id(H5Tcopy(H5T_STD_I64LE));
    case Hdf5Type::kF32:
      return Id(H5Tcopy(H5T_IEEE_F32LE));
    case Hdf5Type::kF64:
      return Id(H5Tcopy(H5T_IEEE_F64LE));
    case Hdf5Type::kBF16: {
      Id bf16(H5Tcopy(H5T_IEEE_F32LE));
      const bool ok =
          H5Tset_fields(bf16.get(), 15, 7, 8, 0, 7) >= 0 && H5Tset_size(bf16.get(), 2) >= 0;
      LACUNA_CHECK(ok, "HDF5: {}", LastError());
      return bf16;
    }
  }
  return Id();
}

bool RecogniseType(hid_t type, Hdf5Type* result, std::string* found) {
  for (const Hdf5Type candidate : kAllTypes) {
    if (H5Tequal(type, MakeType(candidate).get()) > 0) {
      *result = candidate;
      return true;
    }
  }
  static constexpr const char* kClasses[] = {
      "integer",  "float",     "time", "string",          "bit field", "opaque",
      "compound", "reference", "enum", "variable-length", "array"};
  const H5T_class_t type_class = H5Tget_class(type);
  *found = type_class >= 0 && type_class < 11 ? kClasses[type_class] : "unknown";
  if (type_class == H5T_INTEGER || type_class == H5T_FLOAT) {
    *found = fmt::format("{}-bit {}{}", 8 * H5Tget_size(type),
                         H5Tget_order(type) == H5T_ORDER_BE ? "big-endian " : "", *found);
  }
  return false;
}

}  // namespace hdf5
}  // namespace lacuna
