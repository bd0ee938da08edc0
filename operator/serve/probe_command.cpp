#include "operator/serve/probe_command.h"

#include <cpprest/http_client.h>

#include <iostream>
#include <thread>

namespace anneal::serve {
namespace {

/// Whether it answered 200; `said` is the answer's first line, or what went wrong.
bool Ask(const std::string& url, std::string& said) {
  web::http::client::http_client_config config;
  config.set_timeout(std::chrono::seconds(3));
  try {
    web::http::client::http_client client(url, config);
    const auto reply = client.request(web::http::methods::GET).get();
    const std::string text = reply.extract_utf8string(true).get();
    said = text.substr(0, text.find('\n'));
    if (reply.status_code() == 200) return true;
    said = std::to_string(reply.status_code()) + " " + said;
  } catch (const std::exception& error) {
    said = error.what();
  }
  return false;
}

}  // namespace

int ProbeCommand(const std::vector<std::string>& urls, std::chrono::seconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (const std::string& url : urls) {
    std::string said;
    while (!Ask(url, said)) {
      if (std::chrono::steady_clock::now() >= end) {
        std::cerr << "anneal-operator: " << url << ": " << said << "\n";
        return 1;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    std::cout << url << ": " << said << "\n";
  }
  return 0;
}

}  // namespace anneal::serve
