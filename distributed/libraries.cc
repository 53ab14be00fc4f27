#include "distributed/libraries.h"

#include <mpi.h>
#ifdef LACUNA_WITH_NCCL
#include <nccl.h>
#endif

#include <fmt/format.h>

namespace lacuna {

std::string MpiLibrary() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
  // The name and version; builds, dates and identifiers follow.
  const std::string whole = text;
  return whole.substr(0, whole.find_first_of(",\n"));
}

std::string NcclVersion() {
#ifdef LACUNA_WITH_NCCL
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
#else
  return "";
#endif
}

}  // namespace lacuna
