// An HTTPS server on loopback whose every byte a test decides.
#pragma once

#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace anneal::testing {

/// A self-signed certificate for 127.0.0.1, made once per process.
inline const std::string& CertificateFolder() {
  struct Folder {
    std::string path = (std::filesystem::temp_directory_path() / "anneal-tls-XXXXXX").string();
    Folder() {
      if (!::mkdtemp(path.data())) throw std::runtime_error("mkdtemp");
      const std::string command =
          "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=loopback -addext subjectAltName=IP:127.0.0.1 "
          "-keyout " +
          path + "/key.pem -out " + path + "/cert.pem 2>/dev/null";
      if (std::system(command.c_str()) != 0) throw std::runtime_error(command);
    }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

class LoopbackServer {
 public:
  using Socket = boost::asio::ssl::stream<boost::asio::ip::tcp::socket>;
  struct Request {
    std::string head, body;  ///< head: request line and headers, each "Name: value"
  };
  /// Writes to the socket; true = keep the connection.
  using Handler = std::function<bool(const Request&, Socket&)>;

  explicit LoopbackServer(Handler handler, bool ask_client_certificate = false)
      : handler_(std::move(handler)),
        tls_(boost::asio::ssl::context::tls_server),
        acceptor_(io_, {boost::asio::ip::address_v4::loopback(), 0}) {
    tls_.use_certificate_chain_file(CertificateFolder() + "/cert.pem");
    tls_.use_private_key_file(CertificateFolder() + "/key.pem", boost::asio::ssl::context::pem);
    if (ask_client_certificate) {
      tls_.load_verify_file(CertificateFolder() + "/cert.pem");
      tls_.set_verify_mode(boost::asio::ssl::verify_peer | boost::asio::ssl::verify_fail_if_no_peer_cert);
    }
    accepting_ = std::thread([this] { Accept(); });
  }
  ~LoopbackServer() {
    stopping = true;
    boost::asio::io_context io;
    boost::asio::ip::tcp::socket wake(io);
    boost::system::error_code ignored;
    wake.connect(acceptor_.local_endpoint(), ignored);
    accepting_.join();
    {
      const std::lock_guard lock(mutex_);
      for (auto& socket : sockets_) ::shutdown(socket->next_layer().native_handle(), SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
  }
  std::string url() const { return "https://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

  static void Write(Socket& socket, const std::string& bytes) {
    boost::asio::write(socket, boost::asio::buffer(bytes));
  }
  static bool Reply(Socket& socket, const std::string& status, const std::string& body,
                    const std::string& headers = "") {
    Write(socket, "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\n" + headers +
                      "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return true;
  }
  static void BeginStream(Socket& socket) {
    Write(socket, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  }
  static void Chunk(Socket& socket, const std::string& bytes) {
    std::ostringstream size;
    size << std::hex << bytes.size();
    Write(socket, size.str() + "\r\n" + bytes + "\r\n");
  }

  std::atomic<bool> stopping{false};

 private:
  /// "Name:value", which clients may send as well, as "Name: value".
  static std::string WithBlanks(const std::string& head) {
    return std::regex_replace(head, std::regex("(\r\n[^:\r\n]+):([^ ])"), "$1: $2");
  }
  void Accept() {
    for (;;) {
      auto socket = std::make_shared<Socket>(io_, tls_);
      boost::system::error_code error;
      acceptor_.accept(socket->next_layer(), error);
      if (stopping || error) return;
      const std::lock_guard lock(mutex_);
      sockets_.push_back(socket);
      threads_.emplace_back([this, socket] { Serve(*socket); });
    }
  }
  void Serve(Socket& socket) {
    try {
      socket.handshake(boost::asio::ssl::stream_base::server);
      std::string data;
      for (bool keep = true; keep && !stopping;) {
        Request request;
        const size_t head = boost::asio::read_until(socket, boost::asio::dynamic_buffer(data), "\r\n\r\n");
        request.head = WithBlanks(data.substr(0, head));
        data.erase(0, head);
        const size_t at = request.head.find("Content-Length: ");
        const size_t length = at == std::string::npos ? 0 : std::strtoul(request.head.c_str() + at + 16, nullptr, 10);
        if (data.size() < length)
          boost::asio::read(socket, boost::asio::dynamic_buffer(data),
                            boost::asio::transfer_at_least(length - data.size()));
        request.body = data.substr(0, length);
        data.erase(0, length);
        keep = handler_(request, socket);
      }
    } catch (const std::exception&) {
    }
    ::shutdown(socket.next_layer().native_handle(), SHUT_RDWR);
  }

  Handler handler_;
  boost::asio::io_context io_;
  boost::asio::ssl::context tls_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Socket>> sockets_;
  std::vector<std::thread> threads_;
  std::thread accepting_;
};

}  // namespace anneal::testing
