// at::parallel_for, which runs on one thread, without a word, in files that are compiled without OpenMP. Files that
// include this are named to anneal_openmp in their CMakeLists.txt.
#pragma once

#include <ATen/Parallel.h>

#if !defined(INTRA_OP_PARALLEL) && !defined(__clang_analyzer__)
#error "compiled without OpenMP: name this file to anneal_openmp"
#endif
