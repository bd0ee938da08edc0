# anneal_library(NAME SOURCES ... DEPS ...)   one room: a static library with the house's warnings
# anneal_test(NAME SOURCES ... DEPS ... [LABEL unit|golden|process|fault|e2e])   one GoogleTest program, run by ctest
# anneal_program(NAME SOURCES ... DEPS ...)   an executable in build/bin

set(ANNEAL_WARNINGS -Wall -Wextra -Werror -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers)

function(anneal_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE ${ANNEAL_WARNINGS})
  target_link_libraries(${name} PUBLIC ${arg_DEPS})
endfunction()

# anneal_openmp(SOURCES...)   for files of this folder that use at::parallel_for (worker/nn/parallel.h)
function(anneal_openmp)
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS ${OpenMP_CXX_FLAGS})
endfunction()

function(anneal_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE ${ANNEAL_WARNINGS})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
endfunction()

# Tests get: ANNEAL_SOURCE_DIR and ANNEAL_BINARY_DIR as macros, and run in their own empty folder, with the reference's
# order of rounding (docs/decisions/0004).
# What a test program wrote into its folder, judged by a second implementation in Python.
function(anneal_python_judge name)
  cmake_parse_arguments(arg "" "PROGRAM;SCRIPT;VALUES;TIMEOUT" "" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set_tests_properties(${arg_PROGRAM} PROPERTIES FIXTURES_SETUP ${arg_PROGRAM}_values)
  add_test(NAME ${name} COMMAND "${PROJECT_SOURCE_DIR}/tests/run_python" "${CMAKE_CURRENT_SOURCE_DIR}/${arg_SCRIPT}"
    "${PROJECT_BINARY_DIR}/test-work/${arg_PROGRAM}/${arg_VALUES}")
  set_tests_properties(${name} PROPERTIES LABELS golden FIXTURES_REQUIRED ${arg_PROGRAM}_values
    SKIP_RETURN_CODE 77 TIMEOUT ${arg_TIMEOUT})
endfunction()

function(anneal_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_compile_options(${name} PRIVATE ${ANNEAL_WARNINGS})
  target_compile_definitions(${name} PRIVATE
    ANNEAL_SOURCE_DIR="${PROJECT_SOURCE_DIR}" ANNEAL_BINARY_DIR="${PROJECT_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main)
  if(ANNEAL_CUDA)  # is looked for beside the program
    file(CREATE_LINK "${PROJECT_BINARY_DIR}/bin/libanneal_cuda.so" "${CMAKE_CURRENT_BINARY_DIR}/libanneal_cuda.so" SYMBOLIC)
  endif()
  set(work "${PROJECT_BINARY_DIR}/test-work/${name}")
  file(MAKE_DIRECTORY "${work}")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${work}")
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set(threads "")
  if(ANNEAL_SANITIZE STREQUAL "thread")  # what OpenMP's threads do to each other it does not see
    set(threads ";OMP_NUM_THREADS=1")
  endif()
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "OMP_WAIT_POLICY=passive;USE_DETERMINISTIC_ALGORITHMS=1${threads}")
endfunction()
