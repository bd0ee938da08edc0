// fault_plans: disturbs the operator at every place of every workload and compares with an undisturbed run.
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <mutex>
#include <thread>

#include "tests/fault/workloads.h"

namespace {

namespace fault = anneal::fault;
using Steady = std::chrono::steady_clock;

struct Outcome {
  fault::Plan plan;
  fault::Result result;
  double seconds = 0;
};

Outcome RunPlan(const fault::Plan& plan, const std::string& mutation, bool trace = false) {
  const auto began = Steady::now();
  fault::Workload soak;
  const fault::Workload* workload = fault::FindWorkload(plan.workload);
  if (plan.fault == fault::Fault::kSoak) {
    soak = fault::Soak(static_cast<unsigned>(plan.arg));
    workload = &soak;
  }
  fault::World world(*workload, plan, mutation, trace);
  Outcome outcome{plan, world.Run()};
  outcome.seconds = std::chrono::duration<double>(Steady::now() - began).count();
  return outcome;
}

/// Runs all plans on some threads; outcomes in the order of the plans.
std::vector<Outcome> RunAll(const std::vector<fault::Plan>& plans, const std::string& mutation, int threads) {
  std::vector<Outcome> outcomes(plans.size());
  std::atomic<size_t> next{0};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (size_t at = next++; at < plans.size(); at = next++) outcomes[at] = RunPlan(plans[at], mutation);
    });
  }
  for (std::thread& worker : workers) worker.join();
  return outcomes;
}

/// A worker that failed before its peers were made: then some never are.
enum class Unmade {
  kNever,     ///< every pod of the reference was made, as often
  kOfFailed,  ///< pods may be missing whose attempt had another pod
  kAny,       ///< how often pods were made is left out
};

/// Whether another pod of the attempt of "made pods/<ns>/<job>-r1-a1-w1 1" is among the lines.
bool HasPeer(const std::string& line, const std::vector<std::string>& lines) {
  const std::string attempt = line.substr(0, line.rfind("-w") + 2);
  return std::any_of(lines.begin(), lines.end(), [&](const auto& other) { return other.starts_with(attempt); });
}

/// Lines of one end that are not in the other.
std::string Difference(const std::string& reference, const std::string& found, Unmade unmade) {
  const bool without_pods = unmade == Unmade::kAny;
  std::istringstream a(reference), b(found);
  std::vector<std::string> expected, got;
  for (std::string line; std::getline(a, line);) expected.push_back(line);
  for (std::string line; std::getline(b, line);) got.push_back(line);
  std::string text;
  for (const auto& line : expected) {
    if (without_pods && line.starts_with("made pods/")) continue;
    if (unmade == Unmade::kOfFailed && line.starts_with("made pods/") && HasPeer(line, got)) continue;
    if (std::find(got.begin(), got.end(), line) == got.end()) text += "\n      - " + line;
  }
  for (const auto& line : got) {
    if (without_pods && line.starts_with("made pods/")) continue;
    if (std::find(expected.begin(), expected.end(), line) == expected.end()) text += "\n      + " + line;
  }
  return text;
}

struct Row {
  std::string workload;
  size_t plans = 0, passed = 0;
  double seconds = 0;
};

/// Judges outcomes against the reference's end ("" : there is none) and prints those that failed.
Row Judge(const std::string& name, const std::string& reference, const std::vector<Outcome>& outcomes, bool print) {
  Row row{name};
  for (const Outcome& outcome : outcomes) {
    ++row.plans;
    row.seconds += outcome.seconds;
    std::vector<std::string> faults = outcome.result.faults;
    const Unmade unmade = outcome.plan.fault == fault::Fault::kErrors       ? Unmade::kAny
                          : outcome.plan.fault == fault::Fault::kTwoLeaders ? Unmade::kOfFailed
                                                                            : Unmade::kNever;
    const std::string difference = reference.empty() ? "" : Difference(reference, outcome.result.end, unmade);
    if (!difference.empty()) faults.push_back("another end than without faults:" + difference);
    if (faults.empty()) {
      ++row.passed;
    } else if (print) {
      std::cout << "FAILED --plan " << outcome.plan.Text() << "\n";
      for (const std::string& text : faults) std::cout << "    " << text << "\n";
    }
  }
  return row;
}

void Print(const std::vector<Row>& rows) {
  std::cout << "\n| workload | plans | passed | seconds |\n|---|---|---|---|\n" << std::fixed << std::setprecision(1);
  Row all{"all"};
  auto line = [](const Row& row) {
    std::cout << "| " << row.workload << " | " << row.plans << " | " << row.passed << " | " << row.seconds << " |\n";
  };
  for (const Row& row : rows) {
    line(row);
    all.plans += row.plans;
    all.passed += row.passed;
    all.seconds += row.seconds;
  }
  line(all);
}

void WriteReport(const std::string& path, const std::vector<Row>& rows, double wall) {
  anneal::kube::Json report = {{"plans", 0}, {"passed", 0}, {"workloads", rows.size()}, {"seconds", wall}};
  for (const Row& row : rows) {
    report["plans"] = report["plans"].get<size_t>() + row.plans;
    report["passed"] = report["passed"].get<size_t>() + row.passed;
    report["by_workload"].push_back({{"workload", row.workload}, {"plans", row.plans}, {"passed", row.passed}});
  }
  std::filesystem::create_directories(std::filesystem::absolute(path).parent_path());
  std::ofstream(path) << report.dump(2) << "\n";
}

int RunOne(const std::string& text, const std::string& mutation, bool trace) {
  const auto plan = fault::ParsePlan(text);
  if (!plan || (plan->fault != fault::Fault::kSoak && !fault::FindWorkload(plan->workload))) {
    std::cerr << "fault_plans: --plan " << text << ": no such plan\n";
    return 64;
  }
  std::string reference;
  if (plan->fault != fault::Fault::kSoak) reference = RunPlan({plan->workload}, "").result.end;
  const Outcome outcome = RunPlan(*plan, mutation, trace);
  const Row row = Judge(plan->workload, reference, {outcome}, true);
  std::cout << outcome.result.end << (row.passed ? "passed" : "failed") << "\n";
  return row.passed == 1 ? 0 : 1;
}

/// Every bug that can be put into the transport has to be found by some plan: else the checks prove nothing.
int SelfTest(int threads) {
  bool all = true;
  for (const auto& [mutation, workloads] :
       std::map<std::string, std::vector<std::string>>{{"blind-status", {"restart", "change-restart", "run-requested"}},
                                                       {"delete-by-name", {"recreate-restarting"}}}) {
    size_t caught = 0;
    for (const std::string& workload : workloads) {
      const Outcome reference = RunPlan({workload}, "");
      std::vector<fault::Plan> plans;
      for (const auto& plan : fault::PlansOf(workload, reference.result.extent, 1)) {
        if (plan.fault == fault::Fault::kTwoLeaders) plans.push_back(plan);
      }
      const Row row = Judge(workload, reference.result.end, RunAll(plans, mutation, threads), false);
      caught += row.plans - row.passed;
    }
    std::cout << mutation << ": " << caught << " plans find it\n";
    all = all && caught > 0;
  }
  return all ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Disturbs the operator at every place of every workload; what comes out has to be the same."};
  std::string plan, report, mutation, only;
  int thin = 1, soaks = 0, threads = static_cast<int>(std::thread::hardware_concurrency());
  bool self_test = false, list = false, trace = false;
  app.add_option("--plan", plan, "this plan alone, as a failure prints it");
  app.add_option("--workload", only, "this workload alone; soak: only soaks");
  app.add_option("--thin", thin, "every n-th place only")->check(CLI::PositiveNumber);
  app.add_option("--soaks", soaks, "number of random soaks");
  app.add_option("--threads", threads)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--report", report, "JSON file for the totals");
  app.add_option("--mutate", mutation, "a bug in the transport: blind-status, delete-by-name");
  app.add_flag("--self-test", self_test, "the plans have to find bugs that are put in");
  app.add_flag("--trace", trace, "with --plan: print every change of an object");
  app.add_flag("--list", list, "print the workloads");
  CLI11_PARSE(app, argc, argv);
  if (list) {
    for (const auto& workload : fault::Workloads()) std::cout << workload.name << ": " << workload.about << "\n";
    return 0;
  }
  if (self_test) return SelfTest(threads);
  if (!plan.empty()) return RunOne(plan, mutation, trace);

  const auto began = Steady::now();
  std::vector<Row> rows;
  for (const auto& workload : fault::Workloads()) {
    if (!only.empty() && workload.name != only) continue;
    const Outcome reference = RunPlan({workload.name}, "");
    std::vector<fault::Plan> plans = fault::PlansOf(workload.name, reference.result.extent, thin);
    std::vector<Outcome> outcomes = RunAll(plans, mutation, threads);
    outcomes.push_back(reference);
    rows.push_back(Judge(workload.name, reference.result.end, outcomes, true));
    std::cout << workload.name << ": " << rows.back().passed << " of " << rows.back().plans << std::endl;
  }
  if (soaks > 0) {
    std::vector<fault::Plan> plans;
    for (int seed = 1; seed <= soaks; ++seed) plans.push_back({"soak", fault::Fault::kSoak, 0, seed});
    rows.push_back(Judge("soak", "", RunAll(plans, mutation, threads), true));
  }
  Print(rows);
  const double wall = std::chrono::duration<double>(Steady::now() - began).count();
  if (!report.empty()) WriteReport(report, rows, wall);
  for (const Row& row : rows) {
    if (row.passed != row.plans) return 1;
  }
  return 0;
}
