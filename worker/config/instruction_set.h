// The instruction set that this process's own kernels are run for.
#pragma once

namespace anneal::config {

enum class InstructionSet { kScalar, kAvx2, kAvx512 };

/// The widest that the CPU has, or what ANNEAL_CPU_KERNELS (scalar, avx2, avx512) asks for; throws ConfigError when
/// that is none of them or the CPU lacks it.
InstructionSet ChooseInstructionSet();

}  // namespace anneal::config
