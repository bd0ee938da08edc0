// Memory of large tensors is used again, and gaps between them stay bounded.
#include "worker/eval/tensor_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace anneal::eval {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// The deleter finds the process's own memory; its figures are compared with those before.
class TensorMemoryTest : public testing::Test {
 protected:
  TensorMemory& memory_ = TensorMemory::OfProcess();
};

TEST_F(TensorMemoryTest, AStepThatRepeatsTakesTheSameBlocks) {
  void* first[2];
  for (int step = 0; step < 3; ++step) {
    const c10::DataPtr a = memory_.allocate(16 * kMiB), b = memory_.allocate(13 * kMiB + 5);
    std::memset(a.get(), 1, 16 * kMiB);
    std::memset(b.get(), 2, 13 * kMiB + 5);
    if (step == 0) {
      first[0] = a.get();
      first[1] = b.get();
    }
    EXPECT_EQ(a.get(), first[0]);
    EXPECT_EQ(b.get(), first[1]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.get()) % 64, 0u);
  }
}

TEST_F(TensorMemoryTest, WhatASmallTensorLeavesOfAGapIsUsed) {
  { const c10::DataPtr large = memory_.allocate(64 * kMiB); }
  const size_t live = memory_.live_bytes(), held = memory_.held_bytes();
  const c10::DataPtr small = memory_.allocate(2 * kMiB), rest = memory_.allocate(held - live - 2 * kMiB);
  EXPECT_EQ(memory_.held_bytes(), held);
  EXPECT_EQ(memory_.live_bytes(), held);
}

// As a step does: tensors of different sizes, freed in another order than they were made, and one that stays.
TEST_F(TensorMemoryTest, GapsSideBySideBecomeOne) {
  const c10::DataPtr stays = memory_.allocate(2 * kMiB);
  void* first = nullptr;
  for (const auto& order : {std::array{0, 1, 2}, std::array{1, 0, 2}, std::array{2, 1, 0}, std::array{0, 2, 1}}) {
    std::array<c10::DataPtr, 3> three;
    for (size_t i = 0; i < three.size(); ++i) three[i] = memory_.allocate((100 + i) * kMiB);
    if (!first) first = three[0].get();
    EXPECT_EQ(three[0].get(), first);
    for (const int i : order) three[i].clear();
    const size_t before = memory_.held_bytes();
    const c10::DataPtr whole = memory_.allocate(303 * kMiB);
    EXPECT_EQ(whole.get(), first);
    EXPECT_EQ(memory_.held_bytes(), before);
  }
}

TEST_F(TensorMemoryTest, TheLastGapGrows) {
  const size_t used = memory_.held_bytes();
  { const c10::DataPtr block = memory_.allocate(used + 10 * kMiB); }  // fits no gap but at the end
  const size_t before = memory_.held_bytes();
  const c10::DataPtr larger = memory_.allocate(used + 15 * kMiB);
  EXPECT_LE(memory_.held_bytes(), before + 5 * kMiB);
}

// Batches of many sizes, most tensors of a step and some of many steps, as gradients are that are accumulated.
TEST_F(TensorMemoryTest, SizesThatNeverComeAgainDoNotPileUp) {
  { const c10::DataPtr all_gaps = memory_.allocate(memory_.held_bytes() + kMiB); }
  std::minstd_rand random(7);
  std::deque<c10::DataPtr> live;
  size_t most = 0;
  for (int i = 0; i < 3000; ++i) {
    live.push_back(memory_.allocate(kMiB + random() % (i % 7 == 0 ? 200 * kMiB : 20 * kMiB)));
    if (live.size() > 40) live.erase(live.begin() + static_cast<int64_t>(random() % (i % 5 == 0 ? 40 : 8)));
    most = std::max(most, memory_.live_bytes());
  }
  EXPECT_GT(most, 500 * kMiB);
  EXPECT_LE(memory_.held_bytes(), 2 * most);
}

/// Exit code 0 when tensors find the memory that there is and give it back.
[[noreturn]] void AllocateWithFewAddresses() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const size_t addresses = pages * 4096 + 700 * kMiB;
  const rlimit limit{addresses, addresses};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) std::exit(2);
  TensorMemory& memory = TensorMemory::OfProcess();
  if (std::unique_ptr<char[]> others(new (std::nothrow) char[500 * kMiB]); !others) std::exit(3);
  std::vector<c10::DataPtr> blocks;
  for (int i = 0; i < 5; ++i) {
    blocks.push_back(memory.allocate(100 * kMiB));
    std::memset(blocks.back().get(), i, 100 * kMiB);
  }
  blocks.clear();
  std::exit(memory.live_bytes() == 0 ? 0 : 1);
}

// `ulimit -v`
TEST(TensorMemoryDeathTest, ALimitOnAddresses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(AllocateWithFewAddresses(), testing::ExitedWithCode(0), "");
}

TEST_F(TensorMemoryTest, SmallOnesAndNothing) {
  const size_t before = memory_.live_bytes();
  const c10::DataPtr nothing = memory_.allocate(0), small = memory_.allocate(4096), page = memory_.allocate(kMiB - 1);
  std::memset(page.get(), 1, kMiB - 1);
  EXPECT_EQ(memory_.live_bytes(), before);
  void* raw = memory_.raw_allocate(3 * kMiB);
  EXPECT_GT(memory_.live_bytes(), before);
  memory_.raw_deallocate(raw);
  EXPECT_EQ(memory_.live_bytes(), before);
}

// Each thread finds in its blocks what it wrote, whoever had them before and whoever frees them.
TEST_F(TensorMemoryTest, ThreadsNeverShareABlock) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t);
      std::vector<std::pair<c10::DataPtr, size_t>> mine;
      for (int i = 0; i < 300; ++i) {
        const size_t bytes = kMiB + random() % (3 * kMiB);
        mine.emplace_back(memory_.allocate(bytes), bytes);
        auto* data = static_cast<unsigned char*>(mine.back().first.get());
        data[0] = data[bytes - 1] = static_cast<unsigned char>(t + 1);
        if (mine.size() > 4) {
          auto& [block, size] = mine[random() % mine.size()];
          const auto* kept = static_cast<const unsigned char*>(block.get());
          wrong += kept[0] != t + 1 || kept[size - 1] != t + 1;
          std::swap(mine[random() % mine.size()], mine.back());
          mine.pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace anneal::eval
