#include "worker/embedding/row_kernels.h"

#include <cstdlib>
#include <string>

#include "worker/config/error.h"

namespace anneal::embedding {
namespace {

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

}  // namespace

const RowKernels& ChooseKernels() {
  const char* asked = std::getenv("ANNEAL_CPU_KERNELS");
  if (!asked || !*asked) return HasAvx512() ? Avx512Kernels() : HasAvx2() ? Avx2Kernels() : ScalarKernels();
  const std::string name = asked;
  if (name == "scalar") return ScalarKernels();
  if (name != "avx2" && name != "avx512") {
    throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': one of scalar, avx2, avx512");
  }
  if (name == "avx2" ? !HasAvx2() : !HasAvx512()) {
    throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': this CPU lacks it");
  }
  return name == "avx2" ? Avx2Kernels() : Avx512Kernels();
}

}  // namespace anneal::embedding
