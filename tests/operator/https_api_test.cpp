#include "operator/kube/https_api.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <set>

#include "operator/controllers/controllers.h"
#include "operator/kube/watch_frames.h"
#include "operator/local/memory_api.h"
#include "tests/operator/loopback_server.h"
#include "worker/config/error.h"

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Server = testing::LoopbackServer;
using resources::kPod;

ClusterConfig To(const Server& server) {
  ClusterConfig config;
  config.server = server.url();
  config.ca_file = testing::CertificateFolder() + "/cert.pem";
  return config;
}

const std::string kObject = R"({"metadata":{"name":"a","resourceVersion":"7","managedFields":[{"x":1}]}})";

std::optional<WatchEvent> NextEvent(Watch& watch) {
  for (int i = 0; i < 100 && !watch.done(); ++i) {
    if (auto event = watch.Next(milliseconds(100))) return event;
  }
  return std::nullopt;
}

TEST(HttpsApi, SendsTheTokenAndDropsManagedFields) {
  std::string head;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    head = request.head;
    return Server::Reply(socket, "200 OK", kObject);
  });
  ClusterConfig config = To(server);
  config.token = "secret";
  HttpsApi api(config, {});
  const Json object = api.Get(kPod, "ns", "a");
  EXPECT_EQ(object, Json::parse(R"({"metadata":{"name":"a","resourceVersion":"7"}})"));
  EXPECT_EQ(head.substr(0, head.find('\r')), "GET /api/v1/namespaces/ns/pods/a HTTP/1.1");
  EXPECT_NE(head.find("Authorization: Bearer secret"), std::string::npos);
  EXPECT_NE(head.find("User-Agent: anneal-operator"), std::string::npos);
}

TEST(HttpsApi, RequestsBeyondTheBurstWaitTheirTurn) {
  Server server(
      [](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", kObject); });
  HttpsOptions options;
  options.qps = 20;
  options.burst = 2;
  HttpsApi api(To(server), options);
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 6; ++i) api.Get(kPod, "ns", "a");
  // Two at once, four more at 20 a second; being slower than that is no fault.
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds(190));
}

TEST(HttpsApi, NothingIsWrittenOnceTheLeaseMayBeAnothers) {
  std::vector<std::string> asked;
  std::atomic<bool> leads{true};
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    asked.push_back(request.head.substr(0, request.head.find(' ')));
    leads = false;  // while the server says: come again
    return Server::Reply(socket, "429 Too Many Requests", "{}", "Retry-After: 0\r\n");
  });
  HttpsOptions options;
  options.may_write = [&] { return leads.load(); };
  options.tries = 2;
  HttpsApi api(To(server), options);
  const auto reason = [](const auto& call) {
    try {
      call();
    } catch (const ApiError& error) {
      return error.reason();
    }
    return std::string("none");
  };
  EXPECT_EQ(reason([&] { api.Create(kPod, "ns", Json::object()); }), "NotLeading");
  EXPECT_EQ(asked, std::vector<std::string>{"POST"});
  EXPECT_EQ(reason([&] { api.MergePatchStatus(kPod, "ns", "a", Json::object()); }), "NotLeading");
  EXPECT_EQ(reason([&] { api.Delete(kPod, "ns", "a", {}, {}); }), "NotLeading");
  EXPECT_EQ(asked.size(), 1u);
  EXPECT_NE(reason([&] { api.Get(kPod, "ns", "a"); }), "NotLeading");
}

TEST(HttpsApi, ARotatedCaIsReadAgain) {
  Server server(
      [](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", kObject); });
  const std::string file = testing::CertificateFolder() + "/rotated.pem";
  std::ofstream(file) << "";  // trusts nobody yet
  ClusterConfig config = To(server);
  config.ca_file = file;
  HttpsOptions options;
  options.trust_for = milliseconds(0);
  HttpsApi api(config, options);
  EXPECT_THROW(api.Create(kPod, "ns", Json::object()), ApiError);
  std::filesystem::copy_file(testing::CertificateFolder() + "/cert.pem", file,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(api.Create(kPod, "ns", Json::object())["metadata"]["name"], "a");
}

TEST(HttpsApi, RefusesAServerThatTheCaDidNotSign) {
  Server server(
      [](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", kObject); });
  ClusterConfig config = To(server);
  config.ca_file.clear();
  HttpsApi api(config, {});
  try {
    api.Create(kPod, "ns", Json::object());
    FAIL() << "trusted";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.reason(), "Connection");
  }
}

// What the system trusts (here: everything that this server shows) counts only where no CA is given: none but the
// cluster's own may vouch for its API server.
TEST(HttpsApi, ACaOfTheClustersOwnIsTheOnlyOneTrusted) {
  Server server(
      [](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", kObject); });
  ClusterConfig config = To(server);
  const std::string trusted = config.ca_file, other = testing::CertificateFolder() + "/other-ca.pem";
  ASSERT_EQ(std::system(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout /dev/null -out '" +
                         other + "' 2>/dev/null")
                            .c_str()),
            0);
  ::setenv("SSL_CERT_FILE", trusted.c_str(), 1);
  config.ca_file.clear();
  EXPECT_NO_THROW(HttpsApi(config, {}).Create(kPod, "ns", Json::object()));
  config.ca_file = other;
  EXPECT_THROW(HttpsApi(config, {}).Create(kPod, "ns", Json::object()), ApiError);
  std::ofstream(other) << "";
  EXPECT_THROW(HttpsApi(config, {}).Create(kPod, "ns", Json::object()), ApiError);
  ::unsetenv("SSL_CERT_FILE");
}

TEST(HttpsApi, ShowsItsClientCertificate) {
  Server server([](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", kObject); },
                true);
  ClusterConfig config = To(server);
  EXPECT_THROW(HttpsApi(config, {}).Create(kPod, "ns", Json::object()), ApiError);
  config.cert_file = config.ca_file;
  config.key_file = testing::CertificateFolder() + "/key.pem";
  EXPECT_EQ(HttpsApi(config, {}).Create(kPod, "ns", Json::object())["metadata"]["name"], "a");
}

TEST(HttpsApi, ReadsTheTokenFileAgainAfter401) {
  const std::string file = testing::CertificateFolder() + "/token";
  std::ofstream(file) << "old\n";
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    if (request.head.find("Bearer new\r") == std::string::npos) return Server::Reply(socket, "401 Unauthorized", "{}");
    return Server::Reply(socket, "200 OK", kObject);
  });
  ClusterConfig config = To(server);
  config.token_file = file;
  HttpsApi api(config, {});
  EXPECT_THROW(api.Get(kPod, "ns", "a"), ApiError);
  std::ofstream(file) << "new\n";
  EXPECT_EQ(api.Get(kPod, "ns", "a")["metadata"]["name"], "a");
}

TEST(HttpsApi, ComesAgainAfterRetryAfterEvenWithWrites) {
  int asked = 0;
  std::string body;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    body = request.body;
    if (++asked < 3) return Server::Reply(socket, "429 Too Many Requests", "{}", "Retry-After: 1\r\n");
    return Server::Reply(socket, "201 Created", kObject);
  });
  HttpsOptions options;
  options.longest_wait = milliseconds(1);
  HttpsApi(To(server), options).Create(kPod, "ns", {{"kind", "Pod"}});
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(body, R"({"kind":"Pod"})");
}

TEST(HttpsApi, GivesUpAfterSoManyTries) {
  int asked = 0;
  Server server([&](const Server::Request&, Server::Socket& socket) {
    ++asked;
    return Server::Reply(socket, "429 Too Many Requests", "{}", "Retry-After: 1\r\n");
  });
  HttpsOptions options;
  options.longest_wait = milliseconds(1);
  options.tries = 2;
  EXPECT_THROW(HttpsApi(To(server), options).Create(kPod, "ns", Json::object()), ApiError);
  EXPECT_EQ(asked, 2);
}

TEST(HttpsApi, RepeatsReadsAfterABrokenConnectionButNeverWrites) {
  int asked = 0;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    if (++asked == 1 || request.head[0] == 'P') return false;  // closed without an answer
    return Server::Reply(socket, "200 OK", kObject);
  });
  HttpsApi api(To(server), {});
  EXPECT_EQ(api.Get(kPod, "ns", "a")["metadata"]["name"], "a");
  EXPECT_EQ(asked, 2);
  EXPECT_THROW(HttpsApi(To(server), {}).Create(kPod, "ns", Json::object()), ApiError);
  EXPECT_EQ(asked, 3);
}

TEST(HttpsApi, ASilentServerTimesOut) {
  Server server([](const Server::Request&, Server::Socket& socket) {
    char byte;
    boost::system::error_code error;
    socket.next_layer().receive(boost::asio::buffer(&byte, 1), 0, error);  // until the client hangs up
    return false;
  });
  HttpsOptions options;
  options.request_timeout = seconds(1);
  EXPECT_THROW(HttpsApi(To(server), options).Create(kPod, "ns", Json::object()), ApiError);
}

TEST(HttpsApi, ErrorsCarryTheReasonOfTheStatus) {
  Server server([](const Server::Request&, Server::Socket& socket) {
    return Server::Reply(socket, "409 Conflict",
                         R"({"kind":"Status","reason":"AlreadyExists","message":"pods \"a\" already exists"})");
  });
  try {
    HttpsApi(To(server), {}).Create(kPod, "ns", Json::object());
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_TRUE(error.already_exists());
    EXPECT_NE(std::string(error.what()).find("already exists"), std::string::npos);
  }
}

TEST(HttpsApi, DeletesInsistOnTheUid) {
  std::string body, head;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    head = request.head;
    body = request.body;
    return Server::Reply(socket, "200 OK", "{}");
  });
  HttpsApi(To(server), {}).Delete(kPod, "ns", "a", {"uid-1", std::nullopt}, 0);
  EXPECT_EQ(head.substr(0, 7), "DELETE ");
  EXPECT_EQ(Json::parse(body)["preconditions"], Json::parse(R"({"uid":"uid-1"})"));
  EXPECT_EQ(Json::parse(body)["gracePeriodSeconds"], 0);
}

TEST(HttpsApi, WritesSayWhoseFieldsTheyAreAndPathsAreThoseOfTheApi) {
  std::vector<std::string> asked;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    asked.push_back(request.head.substr(0, request.head.find(" HTTP")));
    return Server::Reply(socket, "200 OK", kObject);
  });
  HttpsApi api(To(server), {});
  api.Create(kPod, "ns", Json::object());
  api.MergePatch(resources::kLease, "ns", "a", Json::object());
  api.MergePatchStatus(resources::kTrainJob, "ns", "a", Json::object());
  EXPECT_EQ(asked,
            (std::vector<std::string>{
                "POST /api/v1/namespaces/ns/pods?fieldManager=anneal-operator",
                "PATCH /apis/coordination.k8s.io/v1/namespaces/ns/leases/a?fieldManager=anneal-operator",
                "PATCH /apis/anneal.dev/v1alpha1/namespaces/ns/trainjobs/a/status?fieldManager=anneal-operator"}));
}

TEST(Resources, OfKubernetesOnlyThoseThatStay) {
  using namespace resources;
  for (const auto& used : {kPod, kService, kConfigMap, kPersistentVolumeClaim, kEvent, kLease})
    EXPECT_EQ(used.version, "v1") << used.kind;
}

TEST(HttpsApi, AWatchAsksForItsOwnEndWithinFiveToTenMinutes) {
  std::vector<int> seconds;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    seconds.push_back(std::atoi(request.head.substr(request.head.find("timeoutSeconds=") + 15).c_str()));
    Server::BeginStream(socket);
    Server::Write(socket, "0\r\n\r\n");
    return true;
  });
  HttpsApi api(To(server), {});
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(NextEvent(*api.StartWatch(kPod, "", {})));
  EXPECT_GE(*std::min_element(seconds.begin(), seconds.end()), 300);
  EXPECT_LE(*std::max_element(seconds.begin(), seconds.end()), 600);
  EXPECT_GT(std::set<int>(seconds.begin(), seconds.end()).size(), 1u);  // not all watches at once
}

TEST(HttpsApi, WatchFramesMayBeCutAnywhereAndUnknownTypesAreIgnored) {
  std::string head;
  Server server([&](const Server::Request& request, Server::Socket& socket) {
    head = request.head;
    Server::BeginStream(socket);
    const std::string text = R"({"type":"FUTURE","object":{"metadata":{}}})"
                             "\n"
                             R"({"type":"ADDED","object":)" +
                             kObject + "}\n\n" +
                             R"({"type":"ERROR","object":{"kind":"Status","code":410}})"
                             "\n";
    for (const char c : text) Server::Chunk(socket, std::string(1, c));
    Server::Write(socket, "0\r\n\r\n");
    return true;
  });
  HttpsApi api(To(server), {});
  const auto watch = api.StartWatch(kPod, "", {.label_selector = "a=b", .resource_version = "5"});
  auto event = NextEvent(*watch);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->type, EventType::kAdded);
  EXPECT_EQ(event->object["metadata"]["name"], "a");
  event = NextEvent(*watch);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->type, EventType::kError);
  EXPECT_FALSE(NextEvent(*watch));
  EXPECT_TRUE(watch->done());
  EXPECT_NE(head.find("allowWatchBookmarks=true&timeoutSeconds="), std::string::npos);
  EXPECT_NE(head.find("labelSelector=a%3Db"), std::string::npos);
  EXPECT_NE(head.find("resourceVersion=5"), std::string::npos);
}

TEST(HttpsApi, AHalfOpenWatchEnds) {
  Server server([](const Server::Request&, Server::Socket& socket) {
    Server::BeginStream(socket);
    Server::Chunk(socket, R"({"type":"ADDED","object":)" + kObject + "}\n");
    char byte;
    boost::system::error_code error;
    socket.next_layer().receive(boost::asio::buffer(&byte, 1), 0, error);
    return false;
  });
  HttpsOptions options;
  options.watch_idle = seconds(1);
  HttpsApi api(To(server), options);
  const auto watch = api.StartWatch(kPod, "", {});
  EXPECT_TRUE(NextEvent(*watch));
  EXPECT_FALSE(NextEvent(*watch));
  EXPECT_TRUE(watch->done());
}

TEST(HttpsApi, CancelEndsAWatchAtOnceAndGarbageEndsItToo) {
  bool garbage = false;
  Server server([&](const Server::Request&, Server::Socket& socket) {
    Server::BeginStream(socket);
    if (garbage) Server::Chunk(socket, "<html>\n");
    char byte;
    boost::system::error_code error;
    socket.next_layer().receive(boost::asio::buffer(&byte, 1), 0, error);
    return false;
  });
  HttpsApi api(To(server), {});
  auto watch = api.StartWatch(kPod, "", {});
  watch->Cancel();
  EXPECT_FALSE(NextEvent(*watch));
  EXPECT_TRUE(watch->done());
  watch.reset();
  garbage = true;
  watch = api.StartWatch(kPod, "", {});
  EXPECT_FALSE(NextEvent(*watch));
  EXPECT_TRUE(watch->done());
}

// Lists leave out what nobody reads of them: whatever a reconciler asks of a listed job has to be there.
TEST(HttpsApi, ListsKeepWhatIsReadOfAJob) {
  const Json jobs = Json::parse(R"({"metadata":{"resourceVersion":"9"},"items":[
    {"apiVersion":"anneal.dev/v1alpha1","kind":"TrainJob",
     "metadata":{"name":"a","namespace":"ns","uid":"u","generation":4,"resourceVersion":"7"},
     "spec":{"config":{"inline":"x"},"workers":{"numNodes":2},"warmStart":{"trainJobRef":{"name":"t"}}},
     "status":{"phase":"Running","observedGeneration":3,"conditions":[{"type":"Ready"}],"run":{"number":1}}},
    {"apiVersion":"anneal.dev/v1alpha1","kind":"EvalJob","metadata":{"name":"b","namespace":"ns"},
     "spec":{"source":{"trainJobRef":{"name":"t"}},"gates":[{"relativeTo":{"evalJobRef":{"name":"e"}}}]}},
    {"apiVersion":"anneal.dev/v1alpha1","kind":"ExportJob","metadata":{"name":"c","namespace":"ns"},
     "spec":{"source":{"evalJobRef":{"name":"e"},"trainJobRef":{"name":"t"}}}}]})");
  Server server(
      [&](const Server::Request&, Server::Socket& socket) { return Server::Reply(socket, "200 OK", jobs.dump()); });
  HttpsApi api(To(server), {});
  Clock clock;
  local::MemoryApi nothing({"", nullptr}, clock);
  controllers::ProgressPoller poller(milliseconds(0), [](auto&, auto&) {});
  for (const auto& reconciler : controllers::MakeReconcilers({nothing, clock, poller})) {
    const auto& listed = api.List(reconciler->resource(), "", {}).items;
    ASSERT_EQ(listed.size(), 3u);
    const auto whole = std::find_if(jobs["items"].begin(), jobs["items"].end(),
                                    [&](const Json& job) { return job["kind"] == reconciler->resource().kind; });
    const Json& cut = listed[static_cast<size_t>(whole - jobs["items"].begin())];
    const auto names = [&](const Json& job) {
      std::string text;
      for (const Reference& reference : reconciler->References(job))
        text += reference.resource.kind + "/" + reference.name + " ";
      return text;
    };
    EXPECT_FALSE(names(*whole).empty());
    EXPECT_EQ(names(cut), names(*whole));
    EXPECT_EQ(cut["metadata"], (*whole)["metadata"]);
  }
  const Json status = api.List(resources::kTrainJob, "", {}).items[0]["status"];
  EXPECT_EQ(status, Json::parse(R"({"phase":"Running","observedGeneration":3})"));
}

/// Without the fields of these names, wherever they stand: by hand.
Json Cut(const Json& value, const std::set<std::string>& names) {
  if (!value.is_structured()) return value;
  Json cut = value.is_array() ? Json::array() : Json::object();
  for (const auto& [key, inner] : value.items()) {
    if (value.is_array()) cut.push_back(Cut(inner, names));
    if (value.is_object() && !names.contains(key)) cut[key] = Cut(inner, names);
  }
  return cut;
}

TEST(WatchFrames, FieldsAreLeftOutWhereverTheyStand) {
  std::minstd_rand random(3);
  const std::vector<std::string> names{"a", "b", "containers", "managedFields", "volumes", ""};
  const std::function<Json(int)> made = [&](int depth) -> Json {
    switch (random() % (depth > 0 ? 8 : 6)) {
      case 0:
        return nullptr;
      case 1:
        return true;
      case 2:
        return -5;
      case 3:
        return 18446744073709551615u;
      case 4:
        return 0.25;
      case 5:
        return "\u00e4 \" \\ {}[]";
      case 6: {
        Json array = Json::array();
        for (auto n = random() % 4; n > 0; --n) array.push_back(made(depth - 1));
        return array;
      }
      default: {
        Json object = Json::object();
        for (auto n = random() % 5; n > 0; --n) object[names[random() % names.size()]] = made(depth - 1);
        return object;
      }
    }
  };
  constexpr std::array<std::string_view, 2> without{"containers", "volumes"};
  size_t cut = 0;
  for (int i = 0; i < 500; ++i) {
    const Json object = {{"a", made(5)}, {"managedFields", made(3)}, {"b", made(5)}, {"volumes", made(2)}};
    const std::string text = object.dump();
    EXPECT_EQ(ParseObject(text), Cut(object, {"managedFields"})) << text;
    EXPECT_EQ(ParseObject(text, without), Cut(object, {"managedFields", "containers", "volumes"})) << text;
    cut += text.size() - ParseObject(text, without).dump().size();
    const std::string torn = text.substr(0, random() % text.size());
    EXPECT_THROW(ParseObject(torn, without), ApiError) << torn;
  }
  EXPECT_GT(cut, 10'000u);
  EXPECT_EQ(ParseObject(R"({"a":1,"a":{"b":2}})"), (Json{{"a", {{"b", 2}}}}));  // the last counts, as before
}

// Any user can store such an object: it must not stop the list that it is in.
TEST(WatchFrames, NumbersBeyond64BitsAndDeepObjectsAreJsonToo) {
  constexpr std::array<std::string_view, 1> without{"volumes"};
  for (const std::string number : {"18446744073709551616", "-9223372036854775809", "100000000000000000000"}) {
    const Json object = ParseObject(R"({"managedFields":[1],"volumes":{"a":2},"a":[)" + number + "]}", without);
    EXPECT_EQ(object, (Json{{"a", {std::stod(number)}}})) << number;
  }
  std::string deep = "1";
  for (int i = 0; i < 3000; ++i) deep = "{\"a\":" + deep + "}";
  const std::string cut = ParseObject(deep).dump();
  EXPECT_GT(cut.size(), 100 * 6u);
  EXPECT_LT(cut.size(), 1000 * 6u);
  EXPECT_THROW(ParseObject(deep.substr(0, deep.size() - 1)), ApiError);
  EXPECT_THROW(ParseObject("100000000000000000000"), ApiError);
}

TEST(WatchFrames, MalformedFramesAreErrors) {
  for (const char* frame : {"", "null", "[]", "{", "{}", R"({"type":1,"object":{}})", R"({"type":"ADDED"})",
                            R"({"type":"ADDED","object":[]})", R"({"type":"ADDED","object":{}})",
                            R"({"type":"ADDED","object":{"metadata":3}})", "\xff\xfe"}) {
    EXPECT_THROW(ParseWatchFrame(frame), ApiError) << frame;
  }
  FrameSplitter frames(10);
  frames.Feed("0123456789a", 11);
  EXPECT_THROW(frames.Take(), ApiError);
}

std::string Kubeconfig(const std::string& text) {
  const std::string path = testing::CertificateFolder() + "/kubeconfig";
  std::ofstream(path) << text;
  return path;
}

const std::string kGood = R"(
current-context: one
contexts: [{name: one, context: {cluster: c, user: u, namespace: team}}, {name: two, context: {cluster: c, user: x}}]
clusters: [{name: c, cluster: {server: "https://[::1]:6443", certificate-authority-data: aGVsbG8=}}]
users:
- {name: u, user: {client-certificate: cert.pem, client-key-data: a2V5, token: t}}
- name: x
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, env: [{name: WORD, value: "it's"}],
    args: [-c, 'echo "{\"status\":{\"token\":\"$WORD\"}}"']}}
)";

TEST(ClusterConfig, KubeconfigWithCertificatesTokensContextsAndExec) {
  const std::string path = Kubeconfig(kGood);
  const ClusterConfig one = LoadKubeconfig(path);
  EXPECT_EQ(one.server, "https://[::1]:6443");
  EXPECT_EQ(one.ca_pem, "hello");
  EXPECT_EQ(one.cert_file, testing::CertificateFolder() + "/cert.pem");
  EXPECT_EQ(one.key_pem, "key");
  EXPECT_EQ(one.default_namespace, "team");
  EXPECT_EQ(TokenSource(one).Token(), "t");
  EXPECT_EQ(TokenSource(LoadKubeconfig(path, "two")).Token(), "it's");
}

TEST(ClusterConfig, MalformedKubeconfigsNameTheFault) {
  auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    return text.replace(text.find(from), from.size(), to);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not a kubeconfig"},
      {"[1, 2]", "not a kubeconfig"},
      {"a: [", "kubeconfig:1"},
      {replaced(kGood, "current-context: one", "x: y"), "current-context"},
      {replaced(kGood, "current-context: one", "current-context: three"), "three"},
      {replaced(kGood, "cluster: c,", "cluster: d,"), "clusters"},
      {replaced(kGood, "https://", "gopher://"), "server"},
      {replaced(kGood, "aGVsbG8=", "'***'"), "base64"},
      {replaced(kGood, "name: u, user: {", "name: u, user: 3, z: {"), "users"},
  };
  for (const auto& [text, fault] : cases) {
    try {
      LoadKubeconfig(Kubeconfig(text));
      ADD_FAILURE() << text;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(fault), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace anneal::kube
