#include "tests/fault/world.h"

#include <algorithm>
#include <iostream>
#include <map>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"

namespace anneal::fault {
namespace {

using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;
namespace resources = kube::resources;

const std::vector<kube::Resource>& Kinds() {
  static const std::vector<kube::Resource> kinds = {resources::kTrainJob,
                                                    resources::kEvalJob,
                                                    resources::kExportJob,
                                                    resources::kPod,
                                                    resources::kService,
                                                    resources::kConfigMap,
                                                    resources::kPersistentVolumeClaim};
  return kinds;
}

constexpr int kPodStarts = 1, kPodStops = 2;  // seconds
constexpr int kOperatorStarts = 2, kLease = 20;
constexpr seconds kRenewDeadline{10};

}  // namespace

World::World(const Workload& workload, const Plan& plan, const std::string& mutation, bool trace)
    : server({"", api::DefaultAndValidate, 1'000'000}, clock), workload_(workload), trace_(trace), begin_(clock.now) {
  state_.plan = plan;
  state_.mutation = mutation;
  state_.random.seed(static_cast<unsigned>(plan.arg * 1000 + plan.at));
  kube::ListOptions from;
  from.resource_version = "0";
  for (const kube::Resource& kind : Kinds()) watches_.push_back(server.StartWatch(kind, "", from));
}

Json World::Get(const kube::Resource& resource, const std::string& name) {
  const auto found = kube::Find(server, resource, "default", name);
  return found ? *found : Json();
}
Json World::Status(const kube::Resource& resource, const std::string& name) {
  const Json object = Get(resource, name);
  return object.is_object() ? object.value("status", Json::object()) : Json::object();
}
std::string World::Phase(const kube::Resource& resource, const std::string& name) {
  return Status(resource, name).value("phase", "");
}
int World::RunOf(const kube::Resource& resource, const std::string& name) {
  return Status(resource, name).value("run", Json::object()).value("number", 0);
}
bool World::Exists(const kube::Resource& resource, const std::string& name) { return Get(resource, name).is_object(); }
int64_t World::Seconds() const { return std::chrono::duration_cast<seconds>(clock.now - begin_).count(); }

// Shows the invariants what was written, in the server's order.
void World::Observe(const std::string& writer) {
  std::vector<Seen> fresh;
  for (size_t i = 0; i < watches_.size(); ++i) {
    while (auto event = watches_[i]->Next(milliseconds(0))) {
      const uint64_t version = std::stoull(event->object["metadata"]["resourceVersion"].get<std::string>());
      fresh.push_back({version, Kinds()[i], std::move(*event)});
    }
  }
  std::sort(fresh.begin(), fresh.end(), [](const Seen& a, const Seen& b) { return a.version < b.version; });
  for (Seen& seen : fresh) {
    version_ = seen.version;
    if (trace_) Trace(seen.resource, seen.event, writer);
    invariants_.Observe(seen.resource, seen.event.type, seen.event.object, writer);
    history_.push_back(std::move(seen));
  }
}

void World::Trace(const kube::Resource& resource, const kube::WatchEvent& event, const std::string& writer) const {
  static const std::map<kube::EventType, const char*> words = {
      {kube::EventType::kAdded, "added"}, {kube::EventType::kModified, "changed"}, {kube::EventType::kDeleted, "gone"}};
  const Json& metadata = event.object["metadata"];
  const Json status = event.object.value("status", Json::object()), run = status.value("run", Json::object()),
             ready = api::FindCondition(status, "Ready");
  std::cout << Seconds() << " s  " << writer << "  " << words.at(event.type) << "  " << resource.plural << "/"
            << metadata["name"].get<std::string>() << " version " << metadata["resourceVersion"].get<std::string>()
            << " uid " << metadata["uid"].get<std::string>().substr(0, 8) << " " << status.value("phase", "");
  if (metadata.contains("deletionTimestamp")) std::cout << " terminating";
  if (run.contains("number")) std::cout << " run " << run["number"] << " attempt " << run["attempt"];
  if (event.object.value("spec", Json::object()).value("suspend", false)) std::cout << " spec.suspend";
  if (ready.is_object()) std::cout << " generation " << metadata["generation"] << " " << ready["message"];
  std::cout << "\n";
}

std::vector<Json> World::Past(const kube::Resource& resource, uint64_t versions) {
  std::map<kube::Key, Json> objects;
  const uint64_t until = version_ > versions ? version_ - versions : 0;
  for (const Seen& seen : history_) {
    if (seen.version > until) break;
    if (!(seen.resource == resource)) continue;
    const Json& metadata = seen.event.object["metadata"];
    const kube::Key key{metadata.value("namespace", ""), metadata["name"]};
    if (seen.event.type == kube::EventType::kDeleted) {
      objects.erase(key);
    } else {
      objects[key] = seen.event.object;
    }
  }
  std::vector<Json> list;
  for (auto& [key, object] : objects) list.push_back(std::move(object));
  return list;
}

void World::StartOperator() {
  auto process = std::make_unique<Process>();
  Surroundings surroundings;
  surroundings.now = [this] { return clock.now; };
  surroundings.wrote = [this](bool late) { Observe(late ? "late" : "operator"); };
  surroundings.may_write = [this, p = process.get()] { return clock.now < p->renewed + kRenewDeadline; };
  surroundings.stand_still = [this] { return StandStill(); };
  surroundings.past = [this](const kube::Resource& resource, uint64_t versions) { return Past(resource, versions); };
  surroundings.version = [this] { return version_; };
  process->api = std::make_unique<FaultyApi>(server, state_, std::move(surroundings));
  process->program = std::make_unique<SteppedOperator>(*process->api, clock);
  processes_.push_back(std::move(process));
}

// The operator that is in the middle of a call stops; its lease runs out, a second one takes over and works; then the
// first goes on as if nothing had happened.
bool World::StandStill() {
  if (depth_ > 0) return false;
  ++depth_;
  Process* stopped = nullptr;
  for (auto& process : processes_) {
    if (!process->stopped) stopped = process.get();
  }
  stopped->stopped = true;
  RunFor(kLease);
  StartOperator();
  RunFor(90);
  stopped->stopped = false;
  --depth_;
  return true;
}

void World::RunOperators() {
  if (depth_ == 0) {
    // A leader that lost its lease does a few things more before it notices.
    while (processes_.size() > 1 && processes_.front()->notices_in-- <= 0) {
      surprises_.insert(surprises_.end(), processes_.front()->program->surprises().begin(),
                        processes_.front()->program->surprises().end());
      processes_.erase(processes_.begin());
    }
  }
  const bool alive = std::any_of(processes_.begin(), processes_.end(), [](const auto& p) { return !p->stopped; });
  if (!alive && depth_ == 0 && clock.now >= start_again_) StartOperator();
}

// Only the newest can: the one that was stopped finds the lease taken.
void World::RenewLease() {
  if (!processes_.empty() && !processes_.back()->stopped) processes_.back()->renewed = clock.now;
}

bool World::UserActs() {
  if (step_ >= workload_.steps.size() || !workload_.steps[step_].when(*this)) return false;
  const size_t step = step_++;
  workload_.steps[step].act(*this);
  return true;
}

bool World::Kubelet() {
  bool acted = false;
  const auto age = [&](const std::string& since) {
    const auto time = kube::ParseTime(since);
    return time ? std::chrono::duration_cast<seconds>(clock.now - *time).count() : int64_t{0};
  };
  for (const Json& pod : server.List(resources::kPod, "", {}).items) {
    const Json& metadata = pod["metadata"];
    const std::string name = metadata["name"];
    if (name == silent_node_pod) continue;
    if (!metadata.value("labels", Json::object()).contains("anneal.dev/run")) continue;
    const Json status = pod.value("status", Json::object());
    const std::string phase = status.value("phase", "Pending");
    const auto set = [&](const Json& next) {
      server.MergePatchStatus(resources::kPod, "default", name, {{"status", next}});
      acted = true;
    };
    if (metadata.contains("deletionTimestamp")) {
      const int64_t grace = metadata.value("deletionGracePeriodSeconds", int64_t{30});
      if (age(metadata["deletionTimestamp"]) + grace < kPodStops) continue;
      server.Delete(resources::kPod, "default", name, {}, 0);
      acted = true;
    } else if (phase == "Pending") {
      if (age(metadata["creationTimestamp"]) < kPodStarts) continue;
      set({{"phase", "Running"}, {"startTime", kube::FormatTime(clock.now)}});
    } else if (phase == "Running") {
      const Ending ending = workload_.ending(pod);
      if (ending.after_seconds < 0 || age(status["startTime"]) < ending.after_seconds) continue;
      const Json ended = {{"exitCode", ending.code},
                          {"reason", ending.code == 0 ? "Completed" : "Error"},
                          {"message", ending.message},
                          {"finishedAt", kube::FormatTime(clock.now)}};
      set({{"phase", ending.code == 0 ? "Succeeded" : "Failed"},
           {"containerStatuses", {{{"name", "worker"}, {"state", {{"terminated", ended}}}}}}});
    }
  }
  return acted;
}

// What was made for an owner that is gone.
void World::CollectGarbage() {
  if (collected_ == version_) return;
  collected_ = version_;
  std::set<std::string> alive;
  for (const kube::Resource& kind : {resources::kTrainJob, resources::kEvalJob, resources::kExportJob}) {
    for (const Json& job : server.List(kind, "", {}).items) alive.insert(job["metadata"]["uid"]);
  }
  for (const kube::Resource& kind : Kinds()) {
    for (const Json& object : server.List(kind, "", {}).items) {
      const Json owners = object["metadata"].value("ownerReferences", Json::array());
      if (owners.empty() || alive.count(owners[0]["uid"])) continue;
      try {
        server.Delete(kind, "default", object["metadata"]["name"], {}, std::nullopt);
      } catch (const kube::ApiError&) {
      }
    }
  }
}

// Everybody acts once. False: nobody had anything to do now.
bool World::Round() {
  bool acted = UserActs();
  acted = Kubelet() || acted;
  CollectGarbage();
  Observe("cluster");
  RunOperators();
  RenewLease();
  for (size_t i = 0; i < processes_.size(); ++i) {
    Process* process = processes_[i].get();
    if (process->stopped) continue;
    try {
      acted = process->program->Step() || acted;
    } catch (const Killed&) {
      surprises_.insert(surprises_.end(), process->program->surprises().begin(), process->program->surprises().end());
      std::erase_if(processes_, [&](const auto& p) { return p.get() == process; });
      start_again_ = clock.now + seconds(kOperatorStarts);
      acted = true;
      break;
    }
  }
  return acted;
}

void World::Advance(milliseconds most) {
  auto next = clock.now + most;
  for (const auto& process : processes_) {
    if (process->stopped) continue;
    if (const auto time = process->program->Next(); time && *time > clock.now) next = std::min(next, *time);
  }
  clock.now = next;
}

void World::RunFor(int seconds) {
  const auto until = clock.now + std::chrono::seconds(seconds);
  while (clock.now < until) {
    for (int rounds = 0; Round(); ++rounds) {
      busy_ = clock.now;
      if (rounds > 2000) {
        surprises_.push_back("the operator does not come to rest");
        return;
      }
    }
    // Fine steps while something goes on; held notifications are at most a minute late.
    const milliseconds step(clock.now - busy_ < std::chrono::seconds(70) ? 1000 : 10'000);
    Advance(std::min(step, std::chrono::duration_cast<milliseconds>(until - clock.now)));
  }
}

std::string World::EndState() {
  std::string end;
  for (const kube::Resource& kind : Kinds()) {
    for (const Json& object : server.List(kind, "", {}).items) {
      const Json status = object.value("status", Json::object());
      end += kind.kind + " " + object["metadata"]["name"].get<std::string>() + " " + status.value("phase", "");
      if (status.contains("run")) {
        const Json& run = status["run"];
        end += " run " + run["number"].dump() + " attempt " + run["attempt"].dump() + " counted " +
               run.value("countedRestarts", Json(0)).dump() + " history " +
               std::to_string(status.value("history", Json::array()).size());
        end += " failure " + status.value("failure", Json::object()).value("reason", "none");
      }
      end += "\n";
    }
  }
  for (const auto& [name, times] : invariants_.made()) end += "made " + name + " " + std::to_string(times) + "\n";
  return end;
}

// The steady state: an hour in which the operator, started anew as well, writes nothing.
void World::CheckSteady(Result& result) {
  const int before = state_.writes;
  for (int i = 0; i < 12; ++i) {
    if (i == 6) processes_.clear();
    clock.now += seconds(300);
    RunFor(1);
  }
  if (state_.writes != before)
    result.faults.push_back(std::to_string(state_.writes - before) + " writes in an hour of steady state");
}

Result World::Run() {
  // Long enough for every workload; faults stop before the end, so that what they left behind has to heal.
  const bool soak = state_.plan.fault == Fault::kSoak;
  constexpr int kFaulty = 1500, kHeals = 1200;
  for (int passed = 0; passed < kFaulty; passed += 10) {
    RunFor(10);
    if (!soak && state_.plan.fault != Fault::kErrors && step_ >= workload_.steps.size() && passed > 900) break;
  }
  state_.armed = false;
  state_.stale_until = {};
  RunFor(kHeals);
  Result result;
  result.extent = {state_.writes, state_.reads, state_.notifications};
  CheckSteady(result);
  Observe("cluster");
  if (step_ < workload_.steps.size())
    result.faults.push_back("step " + std::to_string(step_ + 1) + " of the workload never became possible");
  if (const std::string fault = workload_.expect(*this); !fault.empty()) result.faults.push_back(fault);
  for (const std::string& fault : invariants_.broken()) result.faults.push_back(fault);
  for (const auto& process : processes_)
    surprises_.insert(surprises_.end(), process->program->surprises().begin(), process->program->surprises().end());
  for (const std::string& surprise : surprises_) result.faults.push_back("exception: " + surprise);
  result.end = EndState();
  return result;
}

}  // namespace anneal::fault
