# Every library that is not ours. All are Debian packages (tools/setup.sh), except CUDA's own.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(absl REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

# MPI's C++ bindings are gone from the standard; only the C library is used.
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI REQUIRED COMPONENTS C)

# Token shards and checkpoints are one file a rank, written by the serial library.
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)
if(HDF5_IS_PARALLEL)
  message(FATAL_ERROR "found a parallel HDF5 (${HDF5_C_LIBRARIES}); Lacuna needs the serial one: apt-get install libhdf5-dev")
endif()
add_library(lacuna_hdf5 INTERFACE)
target_include_directories(lacuna_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_compile_definitions(lacuna_hdf5 INTERFACE ${HDF5_C_DEFINITIONS})
target_link_libraries(lacuna_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

if(LACUNA_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
find_package(benchmark QUIET)
