#include "core/error.h"

#include <cstring>

namespace lacuna::internal {

void Fail(const char* file, int line, const char* condition, const std::string& message) {
  const char* base = std::strrchr(file, '/');
  throw Error(fmt::format("{}:{}: {} (check failed: {})", base ? base + 1 : file, line, message,
                          condition));
}

}  // namespace lacuna::internal
