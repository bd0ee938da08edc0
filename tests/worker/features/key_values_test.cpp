#include "worker/features/derived/key_values.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace anneal::features {
namespace {

std::vector<KeyValue> Pairs(const std::vector<std::pair<std::string, double>>& given) {
  std::vector<KeyValue> pairs;
  for (const auto& [key, value] : given) pairs.push_back({key, value, static_cast<int64_t>(pairs.size())});
  return pairs;
}

double Dot(const std::vector<std::pair<std::string, double>>& query,
           const std::vector<std::pair<std::string, double>>& document) {
  auto q = Pairs(query), d = Pairs(document);
  return DotProduct(q, d);
}

// What TorchEasyRec's documents and tests give.
TEST(DotProduct, Golden) {
  EXPECT_EQ(Dot({{"a", 0.5}, {"b", 0.5}}, {{"d", 0.5}, {"b", 0.5}}), 0.25);
  EXPECT_EQ(Dot({{"a", 0.5}, {"b", 0.5}}, {{"a", 0.5}, {"b", 0.5}}), 0.5);
  EXPECT_EQ(Dot({{"a", 1}, {"b", 1}, {"c", 1}}, {{"a", 1}, {"b", 1}, {"d", 1}}), 2);
  EXPECT_EQ(Dot({{"a", 1}, {"b", 1}, {"c", 1}}, {{"a", 0.5}, {"b", 0.5}}), 1);
  EXPECT_EQ(Dot({{"a", 2}, {"b", 3}}, {{"a", 2}, {"b", 2}}), 10);
}

TEST(DotProduct, NothingInCommon) { EXPECT_EQ(Dot({{"a", 1}, {"c", 1}}, {{"b", 1}, {"d", 1}}), 0); }

TEST(DotProduct, EqualsMaps) {
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::pair<std::string, double>> sides[2];
    std::map<std::string, double> maps[2];
    for (int side = 0; side < 2; ++side) {
      for (int left = static_cast<int>(random() % 8); left > 0; --left) {
        sides[side].emplace_back(std::string(1, static_cast<char>('a' + random() % 6)),
                                 static_cast<int>(random() % 9) - 4);
        maps[side].insert(sides[side].back());  // the first one
      }
    }
    double expected = 0;
    for (const auto& [key, value] : maps[0]) expected += maps[1].contains(key) ? value * maps[1][key] : 0;
    EXPECT_EQ(Dot(sides[0], sides[1]), expected);
  }
}

}  // namespace
}  // namespace anneal::features
