#include "worker/config/instruction_set.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "worker/config/error.h"

namespace anneal::config {
namespace {

/// In the order of InstructionSet.
constexpr std::array<const char*, 4> kNames = {"scalar", "avx2", "avx512", "amx"};

/// Asks the kernel for the tiles' state, which it saves for those alone that ask.
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h, asm/fpu/types.h
  static const bool may = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return may;
}

}  // namespace

bool CpuRuns(std::string_view kernels) {
  if (kernels == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kernels == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
  }
  if (kernels == "amx") {
    return CpuRuns("avx512") && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
           MayUseTiles();
  }
  return kernels == "scalar";
}

InstructionSet ChooseInstructionSet() {
  const char* asked = std::getenv("ANNEAL_CPU_KERNELS");
  const std::string name = asked ? asked : "";
  for (size_t i = kNames.size(); i-- > 0;) {
    if (name.empty() ? !CpuRuns(kNames[i]) : name != kNames[i]) continue;
    if (!CpuRuns(kNames[i]))
      throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': this CPU lacks it");
    return static_cast<InstructionSet>(i);
  }
  throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': one of scalar, avx2, avx512, amx");
}

}  // namespace anneal::config
