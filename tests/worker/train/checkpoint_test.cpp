// Checkpoints: whole or not at all, damage found, any number of writers, bounded parsing.
#include "worker/train/checkpoint/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "worker/config/error.h"

namespace anneal::checkpoint {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::absolute(std::string("ckpt-") + testing::UnitTest::GetInstance()->current_test_info()->name()).string();
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<float>(i) * 0.5f;
  }

  Contents Make(int64_t step, int64_t begin = 0, int64_t rows = 10) {
    Contents contents;
    contents.step = step;
    contents.model = {{{"table", DType::kF32, {rows, 4}, table_.data() + begin * 4}, begin, 10}};
    if (begin == 0) contents.model.push_back({{"bias", DType::kF32, {3}, table_.data() + 1}});
    contents.optimizer = {{{"table//momentum1", DType::kF32, {rows}, table_.data() + begin}, begin, 10}};
    contents.files["plan"] = "{}";
    return contents;
  }

  static std::string Newest(const std::string& path) {
    const auto found = OpenLatest(path, [](const std::string&) {});
    return found ? found->path() : "";
  }

  std::string dir_;
  std::vector<float> table_ = std::vector<float>(40);
};

TEST_F(CheckpointTest, ReadsBackWhatWasWritten) {
  const std::string path = Save(dir_, Make(7), {}, nullptr);
  ASSERT_EQ(path, dir_ + "/model.ckpt-7");
  const Reader reader(path);
  EXPECT_EQ(reader.step(), 7);
  EXPECT_EQ(reader.shape("table"), (std::vector<int64_t>{10, 4}));
  std::vector<float> rows(12);
  reader.ReadRows("table", 2, 3, 4, rows.data());
  EXPECT_EQ(std::memcmp(rows.data(), table_.data() + 8, 48), 0);
  EXPECT_EQ(reader.file("plan"), "{}");
  EXPECT_THROW(reader.ReadRows("table", 8, 3, 4, rows.data()), DataError);
  EXPECT_THROW(reader.ReadRows("table", 0, 1, 5, rows.data()), DataError);
  EXPECT_THROW(reader.ReadRows("nothing", 0, 1, 1, rows.data()), DataError);
}

TEST_F(CheckpointTest, TwoWritersMakeOneTable) {
  // Two ranks as two threads with a barrier between them.
  std::mutex mutex;
  std::condition_variable changed;
  int waiting = 0, round = 0;
  auto barrier = [&] {
    std::unique_lock lock(mutex);
    const int mine = round;
    if (++waiting == 2) {
      waiting = 0;
      ++round;
      changed.notify_all();
    } else {
      changed.wait(lock, [&] { return round != mine; });
    }
  };
  std::string paths[2];
  std::thread other([&] { paths[1] = Save(dir_, Make(3, 6, 4), {1, 2, barrier}, nullptr); });
  paths[0] = Save(dir_, Make(3, 0, 6), {0, 2, barrier}, nullptr);
  other.join();
  ASSERT_FALSE(paths[0].empty());
  EXPECT_EQ(paths[0], paths[1]);
  const Reader reader(paths[0]);
  std::vector<float> all(40);
  reader.ReadRows("table", 0, 10, 4, all.data());
  EXPECT_EQ(all, table_);
}

std::string Bytes(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST_F(CheckpointTest, DamageToAnyFileIsFoundAndTheOneBeforeTaken) {
  Save(dir_, Make(1), {}, nullptr);
  Save(dir_, Make(2), {}, nullptr);
  const std::string newest = dir_ + "/model.ckpt-2";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(newest)) {
    ++files;
    const std::string file = entry.path(), good = Bytes(file);
    const auto damaged = [&](const std::string& bytes) {
      std::ofstream(file, std::ios::binary) << bytes;
      EXPECT_THROW(Reader{newest}, DataError) << file << ", " << bytes.size() << " bytes";
    };
    for (size_t at = 0; at < good.size(); at += good.size() > 200 ? 7 : 1) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
      damaged(bytes);
    }
    damaged(good.substr(0, good.size() / 2));
    damaged(good + "x");
    damaged("");
    std::string warning;
    EXPECT_EQ(OpenLatest(dir_, [&](const std::string& w) { warning = w; })->path(), dir_ + "/model.ckpt-1");
    EXPECT_NE(warning.find(newest), std::string::npos) << warning;
    EXPECT_NE(warning.find("taking the checkpoint before it"), std::string::npos);
    fs::remove(file);
    EXPECT_THROW(Reader{newest}, DataError) << file;
    std::ofstream(file, std::ios::binary) << good;
    EXPECT_EQ(Newest(dir_), newest);
  }
  EXPECT_EQ(files, 4);  // model, optimizer, plan, manifest
}

TEST_F(CheckpointTest, ADamagedCheckpointOfTheSameStepIsReplaced) {
  Save(dir_, Make(1), {}, nullptr);
  Save(dir_, Make(2), {}, nullptr);
  fs::resize_file(dir_ + "/model.ckpt-2/manifest.json", 10);
  EXPECT_EQ(Save(dir_, Make(2), {}, nullptr), dir_ + "/model.ckpt-2");
  EXPECT_EQ(Newest(dir_), dir_ + "/model.ckpt-2");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 2);
}

TEST_F(CheckpointTest, ARewrittenFileIsCheckedToo) {
  Save(dir_, Make(1), {}, nullptr);
  const std::string path = dir_ + "/model.ckpt-1";
  RewriteFile(path, "plan", "{\"a\": 1}");
  EXPECT_EQ(Reader(path).file("plan"), "{\"a\": 1}");
  RewriteFile(path, "plan", "{\"b\": 2}");
  // Killed before the file itself was replaced: the manifest knows the content before.
  std::ofstream(path + "/plan") << "{\"a\": 1}";
  EXPECT_EQ(Reader(path).file("plan"), "{\"a\": 1}");
  std::ofstream(path + "/plan") << "{}";
  EXPECT_THROW(Reader{path}, DataError);
}

TEST_F(CheckpointTest, AFailedSaveLeavesNothingAndTheOldOneStays) {
  Save(dir_, Make(1), {}, nullptr);
  // A full disk: no file may grow beyond 300 bytes. Every write is tried in turn.
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit before {};
  getrlimit(RLIMIT_FSIZE, &before);
  for (const rlim_t bytes : {100, 250, 300, 350, 400}) {
    const struct rlimit full {bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &full);
    std::string problem;
    const std::string saved = Save(dir_, Make(2), {}, &problem);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(saved, "") << bytes;
    EXPECT_NE(problem.find("cannot write"), std::string::npos) << problem;
    EXPECT_FALSE(fs::exists(dir_ + "/.model.ckpt-2.unfinished"));
    EXPECT_EQ(Newest(dir_), dir_ + "/model.ckpt-1");
  }
}

TEST_F(CheckpointTest, AFullDiskIsATemporaryError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  EXPECT_THROW(WriteFileSynced("/dev/full", std::string(1 << 20, 'x')), TemporaryError);
}

TEST_F(CheckpointTest, LatestPruneAndUnfinished) {
  EXPECT_EQ(Newest(dir_), "");
  for (const int step : {9, 10, 100, 20}) Save(dir_, Make(step), {}, nullptr);
  EXPECT_EQ(Newest(dir_), dir_ + "/model.ckpt-100");
  EXPECT_EQ(Newest(dir_ + "/model.ckpt-9"), dir_ + "/model.ckpt-9");
  EXPECT_EQ(Prune(dir_, 2, dir_ + "/model.ckpt-9").size(), 1u);  // 10 goes, 9 is protected
  EXPECT_TRUE(fs::exists(dir_ + "/model.ckpt-9"));
  EXPECT_FALSE(fs::exists(dir_ + "/model.ckpt-10"));
  fs::create_directories(dir_ + "/.model.ckpt-30.unfinished/x");
  RemoveUnfinished(dir_);
  EXPECT_FALSE(fs::exists(dir_ + "/.model.ckpt-30.unfinished"));
  EXPECT_EQ(StepOf("a/model.ckpt-12/"), 12);
  EXPECT_EQ(StepOf("a/model.ckpt-x"), 0);
}

TEST_F(CheckpointTest, MangledFilesNeverCrash) {
  const std::string path = dir_ + "/x.safetensors";
  const TensorView view{"t", DType::kF32, {2, 3}, table_.data()};
  WriteSafetensors(path, {&view, 1});
  std::ifstream in(path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::mt19937 random(3);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = good;
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random() % 256);
    if (round % 3 == 0) bytes.resize(random() % bytes.size());
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      const SafetensorsFile file(path);
      for (const auto& [name, tensor] : file.tensors()) {
        float sum = 0;
        if (tensor.dtype == DType::kF32) {
          for (int64_t i = 0; i < tensor.elements(); ++i) {
            float value;
            std::memcpy(&value, static_cast<const char*>(tensor.data) + 4 * i, 4);
            sum += value;
          }
        }
        (void)sum;
      }
    } catch (const DataError&) {
    }
  }
}

TEST_F(CheckpointTest, ParamMap) {
  std::ofstream(dir_ + "/map") << "a b\n\n  c   d \n";
  EXPECT_EQ(ReadParamMap(dir_ + "/map"), (std::map<std::string, std::string>{{"a", "b"}, {"c", "d"}}));
  std::ofstream(dir_ + "/bad") << "a b\nonly\n";
  EXPECT_THROW(ReadParamMap(dir_ + "/bad"), ConfigError);
}

}  // namespace
}  // namespace anneal::checkpoint
