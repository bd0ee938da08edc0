// Torch distributed checkpoints: what torch wrote is read, what is written is read back, and nothing that a file holds
// crashes or is executed. dcp_sample was written by torch 2.11 on two ranks: a 10 x 4 table of 0 .. 39 sharded by rows,
// the same by columns, a bias, a counter, two objects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <random>

#include "worker/config/error.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/checkpoint/dcp/layout.h"
#include "worker/train/checkpoint/dcp/pickle.h"

namespace anneal::checkpoint::dcp {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSample = std::string(ANNEAL_SOURCE_DIR) + "/tests/worker/train/dcp_sample";

std::string Bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<float> Counting(size_t count) {
  std::vector<float> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0.f);
  return numbers;
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

std::string Message(const std::function<void()>& action) {
  try {
    action();
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(DcpFolder, ReadsWhatTorchWrote) {
  const DcpFolder folder(kSample);
  ASSERT_EQ(folder.tensors().size(), 4u);  // the two objects are left out
  const Tensor &rows = folder.tensors().at("model.rows.weight"), &columns = folder.tensors().at("model.columns.weight");
  EXPECT_EQ(rows.shape, (std::vector<int64_t>{10, 4}));
  EXPECT_EQ(rows.chunks.size(), 2u);
  EXPECT_TRUE(HasWholeRows(rows));
  EXPECT_FALSE(HasWholeRows(columns));
  EXPECT_EQ(Floats(JoinChunks(rows, "rows")), Counting(40));
  EXPECT_EQ(Floats(JoinChunks(columns, "columns")), Counting(40));
  EXPECT_EQ(Floats(JoinChunks(folder.tensors().at("model.bias"), "bias")), Counting(3));
  const Tensor& count = folder.tensors().at("model.count");
  EXPECT_EQ(count.dtype, DType::kI64);
  int64_t number = 0;
  std::memcpy(&number, count.chunks.at(0).data.data, sizeof number);
  EXPECT_EQ(number, 7);
}

TEST(DcpFolder, ReadsBackWhatItWrites) {
  const fs::path path = fs::absolute("written");
  fs::remove_all(path);
  fs::create_directories(path);
  const std::vector<float> numbers = Counting(40);
  const int64_t steps = 12345678901;
  std::map<std::string, Tensor> tensors;
  tensors["state.a.weight.exp_avg"] = {DType::kF32, {10, 4}, {{{0, 0}, {"", DType::kF32, {3, 4}, numbers.data()}},
                                                             {{3, 0}, {"", DType::kF32, {7, 4}, numbers.data() + 12}}},
                                       {"state", "a.weight", "exp_avg"}};
  tensors["steps"] = {DType::kI64, {}, {{{}, {"", DType::kI64, {}, &steps}}}, {"steps"}};
  tensors["none"] = {DType::kF32, {0, 5}, {{{0, 0}, {"", DType::kF32, {0, 5}, numbers.data()}}}, {"none"}};
  WriteDcpFolder(path, tensors);
  const DcpFolder folder(path);
  EXPECT_EQ(folder.tensors().size(), 3u);
  const Tensor& average = folder.tensors().at("state.a.weight.exp_avg");
  EXPECT_EQ(average.keys, (std::vector<std::string>{"state", "a.weight", "exp_avg"}));
  EXPECT_EQ(Floats(JoinChunks(average, "average")), numbers);
  EXPECT_EQ(OurName("optimizer", "state.a.weight.exp_avg", average), "a.weight//exp_avg");
  EXPECT_EQ(std::memcmp(folder.tensors().at("steps").chunks[0].data.data, &steps, 8), 0);
  EXPECT_EQ(folder.tensors().at("none").shape, (std::vector<int64_t>{0, 5}));
}

TEST(Layout, NamesOfBothKinds) {
  const Tensor unknown{DType::kF32, {}, {}, {"x"}};  // metadata without keys
  EXPECT_EQ(OurName("model", "model.a", unknown), "model.a");
  EXPECT_EQ(OurName("dense_ema", "model.a", unknown), "model.a//dense_ema");
  EXPECT_EQ(OurName("dense_ema", "__n_averaged__", unknown), "");
  EXPECT_EQ(OurName("optimizer", "state.model.mlp.0.bias.exp_avg_sq", unknown), "model.mlp.0.bias//exp_avg_sq");
  EXPECT_EQ(OurName("optimizer", "state.ebc.embedding_bags.t.weight.t.momentum1", unknown),
            "ebc.embedding_bags.t.weight//t.momentum1");
  EXPECT_EQ(OurName("optimizer", "param_groups.0.lr", unknown), "");
  for (const char* name : {"model.mlp.bias", "model.mlp.bias//step", "ebc.t.weight//t.momentum1", "model.a//dense_ema"}) {
    const PlaceInLayout place = PlaceOf(name);
    EXPECT_EQ(OurName(place.part, place.name(), {DType::kF32, {}, {}, place.keys}), name);
  }
}

TEST(Pickle, ExecutesNothing) {
  for (const std::string program : {"cos\nsystem\n(X\x02", "c__builtin__\neval\n.", "cbuiltins\ngetattr\n."}) {
    EXPECT_THAT(Message([&] { Pickle(program, "x"); }), HasSubstr("is no class of the format; nothing of it is executed"));
  }
  std::string stack = "\x80\x04\x8c\x02os\x8c\x06system\x93.";
  EXPECT_THAT(Message([&] { Pickle(stack, "x"); }), HasSubstr("'os.system' is no class"));
}

TEST(Pickle, IsBounded) {
  const auto message = [](const std::string& program) { return Message([&] { Pickle(program, "x"); }); };
  for (const std::string program : {"", "(", "t.", "a.", "K", "X\xff\xff\xff\xff.", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
                                    "(K\x01", "}K\x01.a", "K\x01K\x02\x86u.", "h\x05.", "\x8a\xff.", "(.", "NNs.", "Nb.",
                                    "K\x01Q.", "NNR.", "NN\x93.", "\x80\x09.", "cx", "](K\x01K\x02N0.", "](K\x01(a."}) {
    EXPECT_NE(message(program), "") << testing::PrintToString(program);
  }
  EXPECT_THAT(message("\x80\x02" + std::string(1, 'i') + "."), HasSubstr("opcode 105 is not used by the format"));
  // Depth costs no stack, and a list that holds itself no leak.
  std::string deep(1000000, ')');
  for (char& c : deep) c = '\x85';
  Pickle nested("N" + deep + ".", "x");
  EXPECT_EQ(nested.top().kind, Kind::kTuple);
  Pickle cycle("]q\x01h\x01" "a.", "x");
  EXPECT_EQ(cycle.top().items.front(), &cycle.top());
  EXPECT_THAT(message(std::string((8 << 20) + 1, 'N')), HasSubstr("more than"));
}

// Seeded mutations of every file of the sample and of a folder of our own: an error that names the file, or a folder
// whose tensors can be read.
TEST(DcpFolder, MangledFilesNeverCrash) {
  const fs::path path = fs::absolute("mangled");
  std::mt19937 random(17);
  int refused = 0, rounds = 0;
  for (const char* file : {".metadata", "__0_0.distcp", "__1_0.distcp"}) {
    fs::remove_all(path);
    fs::copy(kSample, path);
    const std::string good = Bytes(path / file);
    for (int round = 0; round < 700; ++round, ++rounds) {
      std::string bytes = good;
      const size_t at = random() % bytes.size();
      switch (round % 4) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
          break;
        case 1:
          for (int k = 0; k < 4; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
          break;
        case 2:
          bytes.resize(at);
          break;
        case 3:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40));
          break;
      }
      std::ofstream(path / file, std::ios::binary) << bytes;
      const std::string message = Message([&] {
        const DcpFolder folder(path);
        for (const auto& [name, tensor] : folder.tensors()) {
          if (!tensor.chunks.empty()) JoinChunks(tensor, (path / name).string());
        }
      });
      refused += !message.empty();
      if (!message.empty()) {
        EXPECT_THAT(message, HasSubstr(path.string()));
      }
    }
  }
  EXPECT_GT(refused, rounds / 2);
}

TEST(DcpFolder, EveryFlippedBitOfANumberIsFound) {
  const fs::path path = fs::absolute("flipped");
  fs::remove_all(path);
  fs::copy(kSample, path);
  std::string bytes = Bytes(path / "__0_0.distcp");
  const std::vector<float> five = Counting(20);
  const size_t begin = bytes.find(std::string(reinterpret_cast<const char*>(five.data() + 1), 8));
  ASSERT_NE(begin, std::string::npos);
  for (size_t bit = 0; bit < 64; bit += 5) {
    std::string flipped = bytes;
    flipped[begin + bit / 8] = static_cast<char>(flipped[begin + bit / 8] ^ (1 << bit % 8));
    std::ofstream(path / "__0_0.distcp", std::ios::binary) << flipped;
    EXPECT_THAT(Message([&] { DcpFolder{path}; }), HasSubstr("the file is damaged"));
  }
}

TEST(Reader, TakesACheckpointOfTorchEasyRec) {
  const fs::path dir = fs::absolute("model_dir");
  fs::remove_all(dir);
  for (const char* step : {"model.ckpt-5", "model.ckpt-12"}) {
    fs::create_directories(dir / step);
    fs::copy(kSample, dir / step / "model");
    std::ofstream(dir / step / "plan") << "{}";
  }
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& warning) { warnings.push_back(warning); };
  EXPECT_EQ(OpenLatest(dir, warn)->path(), (dir / "model.ckpt-12").string());
  const ::anneal::checkpoint::Reader reader(dir / "model.ckpt-12");
  EXPECT_EQ(reader.step(), 12);
  EXPECT_EQ(reader.file("plan"), "{}");
  std::vector<float> some(12);
  reader.ReadRows("model.rows.weight", 4, 3, 4, some.data());
  for (size_t i = 0; i < some.size(); ++i) EXPECT_EQ(some[i], static_cast<float>(16 + i));
  reader.ReadRows("model.columns.weight", 4, 3, 4, some.data());
  for (size_t i = 0; i < some.size(); ++i) EXPECT_EQ(some[i], static_cast<float>(16 + i));
  EXPECT_EQ(Floats(reader.Join("model.rows.weight")), Counting(40));
  fs::resize_file(dir / "model.ckpt-12/model/__1_0.distcp", 100);
  EXPECT_EQ(OpenLatest(dir, warn)->path(), (dir / "model.ckpt-5").string());
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("__1_0.distcp: is shorter than its metadata says"));
}

}  // namespace
}  // namespace anneal::checkpoint::dcp
