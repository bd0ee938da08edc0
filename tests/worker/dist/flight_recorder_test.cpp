#include "worker/dist/flight_recorder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace anneal::dist {
namespace {

using nlohmann::json;

TEST(FlightRecorder, KeepsTheLastCollectivesInOrder) {
  FlightRecorder recorder(3);
  for (int64_t step = 0; step < 5; ++step) {
    EXPECT_EQ(recorder.Begin("all-reduce", step, 8 * step), step + 1);
    recorder.End(step + 1, "");
  }
  const json report = recorder.Report(1, 2, "");
  ASSERT_EQ(report["collectives"].size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const json& entry = report["collectives"][i];
    EXPECT_EQ(entry["sequence"], i + 3);
    EXPECT_EQ(entry["step"], i + 2);
    EXPECT_EQ(entry["bytes"], 8 * (i + 2));
    EXPECT_EQ(entry["state"], "completed");
    EXPECT_GE(entry["seconds"].get<double>(), 0.0);
  }
}

TEST(FlightRecorder, ShowsWhatFailedAndWhatHangs) {
  FlightRecorder recorder;
  recorder.End(recorder.Begin("barrier", 1, 0), "connection \xff closed");
  recorder.Begin("all-to-all", 2, 100);
  const std::string path = recorder.Write("records", 3, 4, "rank 1 is to blame");
  EXPECT_EQ(path, "records/rank-3.json");
  const json report = json::parse(std::ifstream(path));
  EXPECT_EQ(report["rank"], 3);
  EXPECT_EQ(report["world_size"], 4);
  EXPECT_EQ(report["verdict"], "rank 1 is to blame");
  EXPECT_EQ(report["collectives"][0]["state"], "failed");
  EXPECT_NE(report["collectives"][0]["error"].get<std::string>().find("closed"), std::string::npos);
  EXPECT_EQ(report["collectives"][1]["state"], "started");
  EXPECT_EQ(report["collectives"][1]["operation"], "all-to-all");
}

TEST(FlightRecorder, CollectivesMayOverlap) {
  FlightRecorder recorder(2);
  const int64_t first = recorder.Begin("all-reduce", 0, 4), second = recorder.Begin("all-to-all", 0, 8);
  recorder.End(second, "");
  EXPECT_EQ(recorder.Report(0, 2, "")["collectives"][0]["state"], "started");
  EXPECT_EQ(recorder.Report(0, 2, "")["collectives"][1]["state"], "completed");
  recorder.Begin("barrier", 0, 0);  // the first is forgotten
  recorder.End(first, "");
  EXPECT_EQ(recorder.Report(0, 2, "")["collectives"][1]["state"], "started");
}

TEST(FlightRecorder, AFolderThatCannotBeWritten) {
  std::ofstream("a_file") << "x";
  EXPECT_EQ(FlightRecorder().Write("a_file/records", 0, 2, ""), "");
}

}  // namespace
}  // namespace anneal::dist
