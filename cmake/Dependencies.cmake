# How each dependency is found: pinned wheels unpacked in .deps/ (cmake/deps/install) and Debian packages.
# Every library is an imported target anneal::<name>; own code never names a path.

set(ANNEAL_DEPS "${PROJECT_SOURCE_DIR}/.deps" CACHE PATH "where cmake/deps/install put the wheels")
set(wheels "${ANNEAL_DEPS}/wheels")
if(ANNEAL_WORKER AND NOT (EXISTS "${wheels}/torch/lib/libtorch_cpu.so" AND EXISTS "${wheels}/pyarrow/libarrow.so.2600"))
  message(FATAL_ERROR "${wheels} lacks LibTorch or Arrow: run cmake/deps/install first")
endif()

# LibTorch. Not find_package(Torch): it wants a CUDA toolkit. Not libtorch.so: it pulls every CUDA library.
foreach(name c10 torch_cpu)
  add_library(anneal_${name} SHARED IMPORTED)
  set_target_properties(anneal_${name} PROPERTIES IMPORTED_LOCATION "${wheels}/torch/lib/lib${name}.so")
endforeach()
find_package(OpenMP REQUIRED COMPONENTS CXX)  # its flags; the library is LibTorch's
add_library(anneal_gomp SHARED IMPORTED)
set_target_properties(anneal_gomp PROPERTIES IMPORTED_LOCATION "${wheels}/torch/lib/libgomp.so.1")
add_library(anneal_torch INTERFACE)
target_include_directories(anneal_torch SYSTEM INTERFACE
  "${wheels}/torch/include" "${wheels}/torch/include/torch/csrc/api/include")
target_compile_definitions(anneal_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1 USE_DISTRIBUTED USE_C10D_GLOO)
target_link_options(anneal_torch INTERFACE
  "-Wl,-rpath,${ANNEAL_DEPS}/stub" "-Wl,-rpath,${wheels}/torch/lib"  # the empty libtorch.so before the whole one
  "-Wl,-rpath-link,${wheels}/torch/lib:${wheels}/nvidia/cu13/lib")
target_link_libraries(anneal_torch INTERFACE anneal_torch_cpu anneal_c10 anneal_gomp)
add_library(anneal::torch ALIAS anneal_torch)

# The CUDA half of LibTorch; linked by libanneal_cuda.so alone. What it needs in turn is there on machines with a GPU.
if(ANNEAL_CUDA)
  set(cuda "${ANNEAL_DEPS}/cuda/nvidia")
  if(NOT EXISTS "${cuda}/nccl/include/nccl.h")
    message(FATAL_ERROR "${cuda} lacks the headers of CUDA and NCCL: run cmake/deps/install cuda first")
  endif()
  add_library(anneal_torch_cuda INTERFACE)
  target_include_directories(anneal_torch_cuda SYSTEM INTERFACE
    "${cuda}/nccl/include" "${cuda}/cu13/include" "${cuda}/cu13/include/cccl" "${wheels}/nvidia/cu13/include")
  target_compile_definitions(anneal_torch_cuda INTERFACE USE_C10D_NCCL USE_NCCL)
  target_link_options(anneal_torch_cuda INTERFACE "-Wl,--no-as-needed" "-Wl,--allow-shlib-undefined")
  target_link_libraries(anneal_torch_cuda INTERFACE anneal_torch
    "${wheels}/torch/lib/libtorch_cuda.so" "${wheels}/torch/lib/libc10_cuda.so" "${wheels}/nvidia/cu13/lib/libcudart.so.13")
  add_library(anneal::torch_cuda ALIAS anneal_torch_cuda)
endif()

# Arrow and Parquet. libparquet exports a static OpenSSL's symbols, so the system's OpenSSL has to come first on
# every link line that also holds cpprest.
add_library(anneal_openssl INTERFACE)
target_link_options(anneal_openssl INTERFACE "-Wl,--no-as-needed,-lssl,-lcrypto,--as-needed")
add_library(anneal_arrow INTERFACE)
target_include_directories(anneal_arrow SYSTEM INTERFACE "${wheels}/pyarrow/include")
target_link_options(anneal_arrow INTERFACE "-Wl,-rpath,${wheels}/pyarrow" "-Wl,-rpath-link,${wheels}/pyarrow")
target_link_libraries(anneal_arrow INTERFACE anneal_openssl
  "${wheels}/pyarrow/libparquet.so.2600" "${wheels}/pyarrow/libarrow.so.2600" "${wheels}/pyarrow/libarrow_compute.so.2600")
add_library(anneal::arrow ALIAS anneal_arrow)
add_library(anneal_arrow_s3 INTERFACE)
target_link_libraries(anneal_arrow_s3 INTERFACE anneal_arrow "${wheels}/pyarrow/libarrow_s3.so.2600")
add_library(anneal::arrow_s3 ALIAS anneal_arrow_s3)

find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
if(ANNEAL_TESTS)
  find_package(GTest REQUIRED)
endif()
find_package(nlohmann_json REQUIRED)
find_package(simdjson REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(OpenSSL REQUIRED)

add_library(anneal_cpprest INTERFACE)
target_compile_definitions(anneal_cpprest INTERFACE _TURN_OFF_PLATFORM_STRING)  # its macro U breaks others' templates
target_link_libraries(anneal_cpprest INTERFACE anneal_openssl cpprest OpenSSL::SSL OpenSSL::Crypto Threads::Threads)
add_library(anneal::cpprest ALIAS anneal_cpprest)
add_library(anneal_yaml INTERFACE)
target_link_libraries(anneal_yaml INTERFACE yaml-cpp)
add_library(anneal::yaml ALIAS anneal_yaml)
