#include "worker/features/formulas/overlap_method.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "worker/features/number_text.h"
#include "worker/features/refusal.h"

namespace anneal::features {
namespace {

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  SplitText(text, " ", [&](std::string_view word) {
    words.push_back(word);
    return true;
  });
  return words;
}

double Of(const char* method, std::string_view query, std::string_view title) {
  OverlapMethod::Scratch scratch;
  return (*OverlapMethod::FromName(method))(Words(query), Words(title), scratch);
}

// What TorchEasyRec's tests fix.
TEST(OverlapMethod, Golden) {
  const struct {
    const char *method, *query, *title;
    double expected;
  } kCases[] = {{"query_common_ratio", "abc efg", "abc qwe rty uio", 0.5},
                {"query_common_ratio", "abc efg", "abc efg rty", 1},
                {"query_common_ratio", "abc defg", "abc qwe rty uio", 0.5},
                {"title_common_ratio", "abc efg", "abc qwe rty uio", 0.25},
                {"title_common_ratio", "abc efg", "abc", 1},
                {"is_contain", "abc efg", "abc qwe rty uio", 0},
                {"is_contain", "abc efg", "abc efg rty", 1},
                {"is_equal", "abc efg", "abc efg rty", 0},
                {"is_equal", "abc efg", "abc efg", 1},
                {"is_equal", "b c", "a b c d", 0},
                {"is_contain", "b c", "a b c d", 1},
                {"index_of", "b c", "a b c d", 1},
                {"query_common_ratio", "b c", "a b c d", 1},
                {"title_common_ratio", "b c", "a b c d", 0.5},
                {"proximity_min_dist", "b c", "a b c d", 1},
                {"proximity_max_dist", "b c", "a b c d", 1},
                {"proximity_avg_dist", "b c", "a b c d", 1},
                {"proximity_min_cover", "b c", "a b c d", 2}};
  for (const auto& one : kCases) {
    EXPECT_EQ(Of(one.method, one.query, one.title), one.expected)
        << one.method << ": " << one.query << "/" << one.title;
  }
}

TEST(OverlapMethod, ByHand) {
  const struct {
    const char *method, *query, *title;
    double expected;
  } kCases[] = {
      {"query_common_ratio", "a a b", "a c", 0.5},
      {"title_common_ratio", "a a b", "a a c", 0.5},
      {"query_common_ratio", "a", "b", 0},
      {"is_contain", "a c", "a b c", 1},
      {"is_contain", "c a", "a b c", 0},
      {"is_contain", "a a", "a b", 0},
      {"index_of", "a", "a b", 0},
      {"index_of", "a c", "a b c", -1},
      {"index_of", "a b c", "a b", -1},
      {"index_of", "a b", "a a b", 1},
      {"proximity_min_cover", "a b", "a x x b x a b", 2},
      {"proximity_min_cover", "a b a", "a x b", 3},
      {"proximity_min_cover", "a", "x a", 1},
      {"proximity_min_cover", "a z", "a b", 0},
      // Of the example in Tao and Zhai's paper, t1 t2 t1 t3 t5 t4 t2 t3 t4: t1 and t4 3, t1 and t5 2, t4 and t5 1.
      {"proximity_min_dist", "t1 t4 t5", "t1 t2 t1 t3 t5 t4 t2 t3 t4", 1},
      {"proximity_max_dist", "t1 t4 t5", "t1 t2 t1 t3 t5 t4 t2 t3 t4", 3},
      {"proximity_avg_dist", "t1 t4 t5", "t1 t2 t1 t3 t5 t4 t2 t3 t4", 2},
      {"proximity_min_cover", "t1 t4 t5", "t1 t2 t1 t3 t5 t4 t2 t3 t4", 4},
      {"proximity_max_dist", "a b z", "a x b", 2},  // z is nowhere
      {"proximity_min_dist", "x", "a b c", 4},
      {"proximity_avg_dist", "x y", "a b c", 4},
      {"proximity_max_dist", "x a", "a b c", 0}};
  for (const auto& one : kCases) {
    EXPECT_EQ(Of(one.method, one.query, one.title), one.expected)
        << one.method << ": " << one.query << "/" << one.title;
  }
}

TEST(OverlapMethod, DistancesOfManyWords) {
  std::string query = "a b", title = "a x x b";
  for (int i = 0; i < 60000; ++i) query += " q" + std::to_string(i);
  EXPECT_EQ(Of("proximity_avg_dist", query, title), 3);  // what the title has not costs nothing
  for (int i = 0; i < 3000; ++i) title += " q" + std::to_string(i);
  EXPECT_THROW(Of("proximity_min_dist", query, title), Refusal);
}

/// Cover and distances by trying everything.
TEST(OverlapMethod, RandomWords) {
  std::mt19937 random(5);
  const auto draw = [&](int most, int words) {
    std::string text;
    for (int left = 1 + static_cast<int>(random() % most); left > 0; --left) {
      text += (text.empty() ? "" : " ") + std::string(1, static_cast<char>('a' + random() % words));
    }
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string query_text = draw(4, 6), title_text = draw(12, 6);
    const auto query = Words(query_text), title = Words(title_text);
    const std::set<std::string_view> wanted(query.begin(), query.end()), there(title.begin(), title.end());
    double cover = 0;
    for (size_t begin = 0; begin < title.size(); ++begin) {
      for (size_t end = begin + 1; end <= title.size(); ++end) {
        const std::set<std::string_view> piece(title.begin() + begin, title.begin() + end);
        const auto inside = [&](std::string_view word) { return piece.contains(word); };
        const auto size = static_cast<double>(end - begin);
        if (std::all_of(wanted.begin(), wanted.end(), inside) && (cover == 0 || size < cover)) cover = size;
      }
    }
    std::vector<double> distances;
    for (const std::string_view one : wanted) {
      for (const std::string_view other : wanted) {
        if (!(one < other) || !there.contains(one) || !there.contains(other)) continue;
        double nearest = 1e9;
        for (size_t i = 0; i < title.size(); ++i) {
          for (size_t j = 0; j < title.size(); ++j) {
            if (title[i] != one || title[j] != other) continue;
            nearest = std::min(nearest, std::abs(static_cast<double>(i) - static_cast<double>(j)));
          }
        }
        distances.push_back(nearest);
      }
    }
    const bool any = std::any_of(wanted.begin(), wanted.end(), [&](auto word) { return there.contains(word); });
    if (distances.empty()) distances.push_back(any ? 0 : static_cast<double>(title.size() + 1));
    double sum = 0;
    for (const double distance : distances) sum += distance;
    const std::string what = query_text + " / " + title_text;
    EXPECT_EQ(Of("proximity_min_cover", query_text, title_text), cover) << what;
    EXPECT_EQ(Of("proximity_min_dist", query_text, title_text), *std::min_element(distances.begin(), distances.end()));
    EXPECT_EQ(Of("proximity_max_dist", query_text, title_text), *std::max_element(distances.begin(), distances.end()));
    EXPECT_DOUBLE_EQ(Of("proximity_avg_dist", query_text, title_text), sum / static_cast<double>(distances.size()));
  }
}

TEST(OverlapMethod, Names) {
  EXPECT_FALSE(OverlapMethod::FromName("is_common").has_value());
  EXPECT_FALSE(OverlapMethod::FromName("").has_value());
  EXPECT_TRUE(OverlapMethod::Names().starts_with("query_common_ratio, title_common_ratio, is_contain"));
}

}  // namespace
}  // namespace anneal::features
