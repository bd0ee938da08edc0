#include "worker/features/string_hash.h"

#include <gtest/gtest.h>

#include <string>

namespace anneal::features {
namespace {

// parity/features.md 4.2.
TEST(MurmurHash64A, GoldenRows) {
  const struct {
    const char* text;
    uint64_t size, row;
  } kCases[] = {{"abc", 100, 33},   {"efg", 100, 44},   {"hij", 100, 66},  {"xyz", 100, 13},  {"0", 100, 26},
                {"1", 100, 95},     {"2", 100, 70},     {"3", 100, 13},    {"4", 100, 56},    {"x", 100, 35},
                {"y", 100, 30},     {"z", 100, 54},     {"1", 10, 5},      {"3", 10, 3},      {"5", 10, 9},
                {"ua_ia", 100, 37}, {"ua_ib", 100, 90}, {"ub_ia", 100, 5}, {"ub_ib", 100, 97}};
  for (const auto& one : kCases) EXPECT_EQ(MurmurHash64A(one.text) % one.size, one.row) << one.text;
}

TEST(MurmurHash64A, IsTheStandardLibrarysHashForEveryLength) {
  std::string text;
  for (int length = 0; length < 100; ++length) {
    EXPECT_EQ(MurmurHash64A(text), std::hash<std::string>()(text)) << length;
    text.push_back(static_cast<char>(length * 37 + 200));
  }
}

TEST(FarmFingerprint64, GoldenRows) {
  EXPECT_EQ(FarmFingerprint64("1") % 100, 49u);
  EXPECT_EQ(FarmFingerprint64("2") % 100, 59u);
  EXPECT_EQ(FarmFingerprint64("3") % 100, 21u);
}

// Values of util::Fingerprint64 of github.com/google/farmhash, one per code path.
TEST(FarmFingerprint64, AgreesWithGooglesImplementation) {
  const std::string text =
      "The quick brown fox jumps over the lazy dog. 0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const struct {
    size_t length;
    uint64_t hash;
  } kCases[] = {{0, 0x9ae16a3b2f90404fULL},  {3, 0x85887769ddcc73fdULL},  {7, 0xfb3b4353192e2b87ULL},
                {12, 0xdeb1ca71b4dcc987ULL}, {16, 0x3bf6bd3bebd31655ULL}, {25, 0x14dd52721d1c6db7ULL},
                {32, 0xb65964dee7761262ULL}, {40, 0xa50d99c0497be8a1ULL}, {64, 0x32515975bbb80ee2ULL},
                {65, 0xa83522f94f329fe4ULL}, {100, 0x4477a7c5e2a6c582ULL}};
  for (const auto& one : kCases) EXPECT_EQ(FarmFingerprint64(text.substr(0, one.length)), one.hash) << one.length;
}

}  // namespace
}  // namespace anneal::features
