#include "worker/config/instruction_set.h"

#include <cstdlib>
#include <string>

#include "worker/config/error.h"

namespace anneal::config {

bool CpuRuns(std::string_view kernels) {
  if (kernels == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kernels == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
  return kernels == "scalar";
}

InstructionSet ChooseInstructionSet() {
  const char* asked = std::getenv("ANNEAL_CPU_KERNELS");
  if (!asked || !*asked)
    return CpuRuns("avx512") ? InstructionSet::kAvx512
           : CpuRuns("avx2") ? InstructionSet::kAvx2
                             : InstructionSet::kScalar;
  const std::string name = asked;
  if (name != "scalar" && name != "avx2" && name != "avx512") {
    throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': one of scalar, avx2, avx512");
  }
  if (!CpuRuns(name)) throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': this CPU lacks it");
  return name == "avx512" ? InstructionSet::kAvx512 : name == "avx2" ? InstructionSet::kAvx2 : InstructionSet::kScalar;
}

}  // namespace anneal::config
