#include "operator/kube/https_api.h"

#include <pplx/threadpool.h>

#include <algorithm>
#include <array>
#include <boost/asio/ssl.hpp>
#include <condition_variable>
#include <deque>
#include <random>
#include <thread>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
namespace ssl = boost::asio::ssl;

/// A TLS record. The default is four times as much, allocated, cleared and freed for every piece that is read.
constexpr size_t kChunk = 16384;

std::string Encode(const std::string& text) { return web::uri::encode_data_string(text); }

std::string PathOf(const Resource& resource, const std::string& ns, const std::string& name = "",
                   const std::string& subresource = "") {
  std::string path =
      resource.group.empty() ? "/api/" + resource.version : "/apis/" + resource.group + "/" + resource.version;
  if (!ns.empty()) path += "/namespaces/" + Encode(ns);
  path += "/" + resource.plural;
  if (!name.empty()) path += "/" + Encode(name);
  if (!subresource.empty()) path += "/" + subresource;
  return path;
}

std::string Query(const ListOptions& options) {
  std::string query;
  auto add = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) query += (query.empty() ? "?" : "&") + name + "=" + Encode(value);
  };
  add("labelSelector", options.label_selector);
  add("fieldSelector", options.field_selector);
  if (options.limit > 0) add("limit", std::to_string(options.limit));
  add("continue", options.continue_token);
  // A continue token carries its own version.
  if (options.continue_token.empty()) add("resourceVersion", options.resource_version);
  return query;
}

/// The Status object of a failed request, or what can be told without one.
ApiError ErrorOf(int status, const std::string& body, const std::string& what) {
  const Json answer = Json::parse(body, nullptr, false);
  std::string reason, message;
  if (answer.is_object()) {
    if (answer.contains("reason") && answer["reason"].is_string()) reason = answer["reason"];
    if (answer.contains("message") && answer["message"].is_string()) message = answer["message"];
  }
  if (message.empty()) message = "HTTP " + std::to_string(status) + " " + body.substr(0, 200);
  return ApiError(status, reason, what + ": " + message);
}

double Jitter() {
  thread_local std::minstd_rand random(std::random_device{}());
  return std::uniform_real_distribution<double>(0, 1)(random);
}

milliseconds RetryAfter(const web::http::http_response& reply, milliseconds longest) {
  const auto found = reply.headers().find("Retry-After");
  if (found == reply.headers().end()) return milliseconds(0);
  char* end = nullptr;
  const long seconds = std::strtol(found->second.c_str(), &end, 10);
  if (end == found->second.c_str() || seconds < 0) return milliseconds(1000);
  return std::min<milliseconds>(longest, std::chrono::seconds(std::min(seconds, 3600L)));
}

/// Most of a pod and of a job, and nobody reads it from a list or a watch: child_cache.cpp says what is read of a pod,
/// EventRouter::Read and Reconciler::References what is read of a job.
constexpr std::array<std::string_view, 4> kUnreadOfPods{"containers", "initContainers", "volumes", "tolerations"};
constexpr std::array<std::string_view, 8> kUnreadOfJobs{"config", "workers", "rendezvous", "failurePolicy",
                                                        "data",   "run",     "history",    "conditions"};
Without UnreadOf(const Resource& resource) {
  if (resource == resources::kPod) return kUnreadOfPods;
  return resource.group == resources::kTrainJob.group ? Without(kUnreadOfJobs) : Without();
}

/// One watch stream, read by its own thread into a short queue.
class StreamWatch : public Watch {
 public:
  StreamWatch(std::shared_ptr<web::http::client::http_client> client, web::http::http_response reply,
              pplx::cancellation_token_source cancel, Without without)
      : client_(std::move(client)),
        reply_(std::move(reply)),
        cancel_(std::move(cancel)),
        without_(without),
        thread_([this] { Read(); }) {}
  ~StreamWatch() override {
    Cancel();
    thread_.join();
  }

  std::optional<WatchEvent> Next(milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return !events_.empty() || ended_; });
    if (events_.empty()) return std::nullopt;
    WatchEvent event = std::move(events_.front());
    events_.pop_front();
    changed_.notify_all();
    return event;
  }
  void Cancel() override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      changed_.notify_all();
    }
    cancel_.cancel();
  }
  bool done() const override {
    const std::lock_guard lock(mutex_);
    return ended_ && events_.empty();
  }

 private:
  void Read() {
    try {
      auto body = reply_.body().streambuf();
      FrameSplitter frames;
      char bytes[16384];
      while (body.getc().get() != std::char_traits<char>::eof()) {
        const size_t ready = std::clamp<size_t>(body.in_avail(), 1, sizeof bytes);
        const size_t size = body.getn(reinterpret_cast<uint8_t*>(bytes), ready).get();
        if (size == 0) break;
        frames.Feed(bytes, size);
        while (const auto frame = frames.Take()) {
          auto event = ParseWatchFrame(*frame, without_);
          if (!event) continue;
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [&] { return events_.size() < kWaiting || cancelled_; });
          if (cancelled_) break;
          events_.push_back(std::move(*event));
          changed_.notify_all();
        }
      }
    } catch (const std::exception&) {
      // Broken, silent for too long, or garbage: the stream ends here and the informer goes on from its last version.
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  static constexpr size_t kWaiting = 100;
  std::shared_ptr<web::http::client::http_client> client_;
  web::http::http_response reply_;
  pplx::cancellation_token_source cancel_;
  const Without without_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WatchEvent> events_;
  bool ended_ = false, cancelled_ = false;
  std::thread thread_;
};

}  // namespace

void SetConnectionThreads(size_t count) { crossplat::threadpool::initialize_with_threads(count); }

HttpsApi::HttpsApi(ClusterConfig config, HttpsOptions options)
    : config_(std::move(config)), options_(std::move(options)), token_(config_) {
  Connection(false);  // wrong certificate files are told at start
}

std::shared_ptr<HttpsApi::Client> HttpsApi::Connection(bool watch) {
  const std::lock_guard lock(mutex_);
  if (!client_ || steady_clock::now() - trust_read_ > options_.trust_for) {
    auto content = [](const std::string& pem, const std::string& file) { return file.empty() ? pem : ReadFile(file); };
    const std::string ca = content(config_.ca_pem, config_.ca_file),
                      cert = content(config_.cert_pem, config_.cert_file),
                      key = content(config_.key_pem, config_.key_file);
    trust_read_ = steady_clock::now();
    if (!client_ || trust_ != ca + cert + key) {
      trust_ = ca + cert + key;
      auto make = [&](std::chrono::seconds timeout) {
        web::http::client::http_client_config http;
        http.set_timeout(timeout);
        http.set_chunksize(kChunk);
        http.set_validate_certificates(!config_.insecure);
        const bool own_ca = !config_.ca_file.empty() || !config_.ca_pem.empty();
        http.set_ssl_context_callback([own_ca, ca, cert, key](ssl::context& context) {
          context.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                              ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1);
          // The client has loaded what the system trusts; where the cluster has a CA of its own, only that may vouch.
          if (own_ca) ::SSL_CTX_set_cert_store(context.native_handle(), ::X509_STORE_new());
          if (!ca.empty()) context.add_certificate_authority(boost::asio::buffer(ca));
          if (!cert.empty()) context.use_certificate_chain(boost::asio::buffer(cert));
          if (!key.empty()) context.use_private_key(boost::asio::buffer(key), ssl::context::pem);
        });
        return std::make_shared<Client>(web::uri(config_.server), http);
      };
      client_ = make(options_.request_timeout);
      watch_client_ = make(options_.watch_idle);
    }
  }
  return watch ? watch_client_ : client_;
}

web::http::http_request HttpsApi::Request(const std::string& method, const std::string& path, const std::string& body) {
  web::http::http_request request(method);
  request.set_request_uri(web::uri(path));
  request.headers().add("User-Agent", options_.user_agent);
  request.headers().add("Accept", "application/json");
  const std::string token = token_.Token();
  if (!token.empty()) request.headers().add("Authorization", "Bearer " + token);
  if (!body.empty()) request.set_body(body, method == "PATCH" ? "application/merge-patch+json" : "application/json");
  return request;
}

// Each request takes 1/qps seconds of a budget that may run `burst` requests ahead.
void HttpsApi::WaitForTurn() {
  if (options_.qps <= 0) return;
  const auto step = std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(1 / options_.qps));
  steady_clock::time_point turn;
  {
    const std::lock_guard lock(mutex_);
    next_turn_ = std::max(next_turn_, steady_clock::now() - step * options_.burst) + step;
    turn = next_turn_;
  }
  std::this_thread::sleep_until(turn);
}

Json HttpsApi::Send(const std::string& method, const std::string& path, const Json* body, Without without) {
  const std::string text = body ? body->dump() : "", what = method + " " + path.substr(0, path.find('?'));
  bool renewed = false;
  for (int attempt = 1;; ++attempt) {
    const auto began = steady_clock::now();
    auto observe = [&](const std::string& code) {
      if (options_.observe)
        options_.observe(code, method, std::chrono::duration<double>(steady_clock::now() - began).count());
    };
    milliseconds wait(0);
    WaitForTurn();
    if (method != "GET" && options_.may_write && !options_.may_write())
      throw ApiError(0, "NotLeading", what + ": not sent, another replica may lead by now");
    try {
      auto reply = Connection(false)->request(Request(method, path, text)).get();
      const int status = reply.status_code();
      const std::string answer = reply.extract_utf8string(true).get();
      observe(std::to_string(status));
      if (status >= 200 && status < 300) return ParseObject(answer, without);
      if (status == 401 && !renewed) {
        renewed = true;
        token_.Invalidate();
        continue;
      }
      wait = RetryAfter(reply, options_.longest_wait);
      const bool told = (status == 429 || status == 503) && reply.headers().has("Retry-After");
      const bool read = method == "GET" && status >= 500 && attempt < 3;
      if ((!told && !read) || attempt >= options_.tries) throw ErrorOf(status, answer, what);
    } catch (const web::http::http_exception& error) {
      observe("<error>");
      const bool late = error.error_code() == std::errc::timed_out;
      if (method != "GET" || late || attempt >= 3)
        throw ApiError(0, late ? "Timeout" : "Connection", what + ": " + error.what());
    } catch (const web::uri_exception& error) {
      throw ApiError(0, "Connection", what + ": " + error.what());
    }
    std::this_thread::sleep_for(std::max(wait, milliseconds(static_cast<int>(100 * attempt * (1 + Jitter())))));
  }
}

Json HttpsApi::Get(const Resource& resource, const std::string& ns, const std::string& name) {
  return Send("GET", PathOf(resource, ns, name), nullptr);
}

ListResult HttpsApi::List(const Resource& resource, const std::string& ns, const ListOptions& options) {
  Json answer = Send("GET", PathOf(resource, ns) + Query(options), nullptr, UnreadOf(resource));
  if (!answer.contains("items") || !answer.contains("metadata")) {
    throw ApiError(0, "BadFrame", "listing " + resource.plural + ": not a list");
  }
  ListResult result;
  result.resource_version = answer["metadata"].value("resourceVersion", "");
  result.continue_token = answer["metadata"].value("continue", "");
  if (answer["items"].is_array()) result.items = std::move(answer["items"].get_ref<Json::array_t&>());
  for (Json& item : result.items) {  // lists leave these out of their items
    item["apiVersion"] = resource.api_version();
    item["kind"] = resource.kind;
  }
  return result;
}

std::unique_ptr<Watch> HttpsApi::StartWatch(const Resource& resource, const std::string& ns,
                                            const ListOptions& options) {
  const std::string query = Query(options);
  const int seconds = 300 + static_cast<int>(300 * Jitter());
  const std::string path = PathOf(resource, ns) + query + (query.empty() ? "?" : "&") +
                           "watch=true&allowWatchBookmarks=true&timeoutSeconds=" + std::to_string(seconds);
  pplx::cancellation_token_source cancel;
  try {
    const auto client = Connection(true);
    auto reply = client->request(Request("GET", path, ""), cancel.get_token()).get();
    if (options_.observe) options_.observe(std::to_string(reply.status_code()), "WATCH", 0);
    if (reply.status_code() == 200) return std::make_unique<StreamWatch>(client, reply, cancel, UnreadOf(resource));
    if (reply.status_code() == 401) token_.Invalidate();
    throw ErrorOf(reply.status_code(), reply.extract_utf8string(true).get(), "watching " + resource.plural);
  } catch (const web::http::http_exception& error) {
    if (options_.observe) options_.observe("<error>", "WATCH", 0);
    throw ApiError(0, "Connection", "watching " + resource.plural + ": " + error.what());
  }
}

Json HttpsApi::Create(const Resource& resource, const std::string& ns, const Json& object) {
  return Send("POST", PathOf(resource, ns) + "?fieldManager=anneal-operator", &object);
}

Json HttpsApi::MergePatch(const Resource& resource, const std::string& ns, const std::string& name, const Json& patch) {
  return Send("PATCH", PathOf(resource, ns, name) + "?fieldManager=anneal-operator", &patch);
}

Json HttpsApi::MergePatchStatus(const Resource& resource, const std::string& ns, const std::string& name,
                                const Json& patch) {
  return Send("PATCH",
              PathOf(resource, ns, name, resource.has_status ? "status" : "") + "?fieldManager=anneal-operator",
              &patch);
}

void HttpsApi::Delete(const Resource& resource, const std::string& ns, const std::string& name,
                      const Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) {
  Json body = {{"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"propagationPolicy", "Background"}};
  if (preconditions.uid) body["preconditions"]["uid"] = *preconditions.uid;
  if (preconditions.resource_version) body["preconditions"]["resourceVersion"] = *preconditions.resource_version;
  if (grace_period_seconds) body["gracePeriodSeconds"] = *grace_period_seconds;
  Send("DELETE", PathOf(resource, ns, name), &body);
}

}  // namespace anneal::kube
