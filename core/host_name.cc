#include "core/host_name.h"

#include <unistd.h>

namespace lacuna {

std::string HostName() {
  char name[256] = "";
  if (::gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "?";
  return name;
}

}  // namespace lacuna
