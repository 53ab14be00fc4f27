# Language level, warnings and build types of every target of ours, and the LACUNA_CUDA decision.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(LACUNA_CCACHE ccache)
if(LACUNA_CCACHE)
  # Clones in other folders find each other's objects.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${LACUNA_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${launcher})
endif()

# errno and trapping FP semantics of libm are used nowhere; without them loops over sqrt and selects vectorise.
# NaN and inf keep their IEEE meaning.
add_library(lacuna_flags INTERFACE)
target_compile_options(lacuna_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror -fno-math-errno -fno-trapping-math -ffp-contract=fast -march=${LACUNA_CPU_ARCH}>)
target_include_directories(lacuna_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(LACUNA_SANITIZE)
  target_compile_options(lacuna_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer>)
  target_link_options(lacuna_flags INTERFACE -fsanitize=address,undefined)
  # MPI_Init and MPI_Finalize alone leave 121 kB in 3,345 blocks behind (Open MPI 4.1.4), in plug-ins that are unloaded by the time
  # leaks are looked for, so that no suppression can name them; and LeakSanitizer does not run under strace.
  set(LACUNA_MPI_TEST_ENV "ASAN_OPTIONS=detect_leaks=0")
endif()

set(LACUNA_WITH_CUDA OFF)
if(NOT LACUNA_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real CACHE STRING "CUDA architectures")
  check_language(CUDA)
  if(LACUNA_CUDA STREQUAL "ON")
    if(NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "LACUNA_CUDA=ON but no nvcc was found (set CUDACXX, or use LACUNA_CUDA=OFF)")
    endif()
    set(LACUNA_WITH_CUDA ON)
  elseif(CMAKE_CUDA_COMPILER AND EXISTS /dev/nvidia0)
    set(LACUNA_WITH_CUDA ON)
  endif()
endif()
if(LACUNA_WITH_CUDA)
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc 12 and later have C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  find_package(CUDAToolkit REQUIRED)
  target_compile_definitions(lacuna_flags INTERFACE LACUNA_WITH_CUDA=1)
  target_compile_options(lacuna_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra>)
endif()
message(STATUS "Lacuna: CUDA backend ${LACUNA_WITH_CUDA}, ${CMAKE_BUILD_TYPE}, -march=${LACUNA_CPU_ARCH}")
