// The two hashes by which text becomes a row number (parity/features.md 4.2). Both are fixed for ever: a trained table
// is only meaningful with the hash that filled it.
#pragma once

#include <cstdint>
#include <string_view>

namespace anneal::features {

/// 64-bit MurmurHash2 (MurmurHash64A) as libstdc++'s std::hash<std::string> uses it, seed 0xc70f6907. Written out here
/// so that the result depends on no standard library.
uint64_t MurmurHash64A(std::string_view text);

/// FarmHash Fingerprint64 (https://github.com/google/farmhash), what TensorFlow's string bucketing uses.
uint64_t FarmFingerprint64(std::string_view text);

}  // namespace anneal::features
