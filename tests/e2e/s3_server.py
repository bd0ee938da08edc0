"""A real S3 server (moto) that checks signatures, behind a proxy that breaks requests as a test wants."""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import boto3
import botocore.config

METHODS = ("GET", "PUT", "POST", "HEAD", "DELETE")
# User, key, policy and bucket are made before moto asks for signatures.
SETUP_CALLS = 4
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})


def client(endpoint, service, access_key, secret_key):
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=access_key,
                        aws_secret_access_key=secret_key, config=botocore.config.Config(s3={"addressing_style": "path"}))


def prepare(endpoint, bucket):
    """A user with a key, and a bucket: the SETUP_CALLS. Access key, secret key, S3 client."""
    setup = client(endpoint, "iam", "anything", "anything")
    setup.create_user(UserName="exporter")
    key = setup.create_access_key(UserName="exporter")["AccessKey"]
    setup.put_user_policy(UserName="exporter", PolicyName="s3", PolicyDocument=EVERYTHING)
    store = client(endpoint, "s3", key["AccessKeyId"], key["SecretAccessKey"])
    store.create_bucket(Bucket=bucket)
    return key["AccessKeyId"], key["SecretAccessKey"], store


class Request:
    def __init__(self, method, path, body):
        self.method, self.path, self.body = method, path, body
        self.key = path.split("?")[0].split("/", 2)[-1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        proxy = self.server.proxy
        request = Request(self.command, self.path, self.read_body())
        with proxy.lock:
            proxy.requests.append(request)
            proxy.active += 1
            proxy.most_active = max(proxy.most_active, proxy.active)
        try:
            answer = proxy.fault(request) if proxy.fault else None
            if answer == "cut":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.answer(*(answer or proxy.forward(request, self.headers)))
        except OSError:
            self.close_connection = True  # the client is gone: killed
        finally:
            with proxy.lock:
                proxy.active -= 1

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), len(body))
        self.send_header("Content-Length", length if self.command == "HEAD" else len(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


for method in METHODS:
    setattr(Handler, "do_" + method, Handler.handle_one)


class S3:
    """`fault(request)` is asked for each request: None forwards it, "cut" closes the connection, else (status, headers, body)."""

    bucket = "models"

    def __init__(self, folder):
        self.fault, self.requests, self.lock, self.active, self.most_active = None, [], threading.Lock(), 0, 0
        log = open(pathlib.Path(folder) / "moto.log", "w+")
        self.server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"],
                                       stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(SETUP_CALLS)})
        end = time.monotonic() + 400
        self.upstream = None
        while not self.upstream:
            if self.server.poll() is not None or time.monotonic() > end:
                raise AssertionError("moto does not start: " + pathlib.Path(log.name).read_text()[-2000:])
            text = pathlib.Path(log.name).read_text()
            if "Running on http://127.0.0.1:" in text:
                self.upstream = int(text.split("Running on http://127.0.0.1:")[1].split()[0])
            time.sleep(0.05)
        self.proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.proxy.daemon_threads = True
        self.proxy.proxy = self
        self.proxy.handle_error = lambda *_: None  # clients that are killed
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.proxy.server_address[1]}"
        self.access_key, self.secret_key, self.s3 = prepare(f"http://127.0.0.1:{self.upstream}", self.bucket)
        self.requests.clear()

    def stop(self):
        self.proxy.shutdown()
        self.proxy.server_close()
        self.server.kill()
        self.server.wait()

    def forward(self, request, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        # The Host that was signed is the Host that arrives.
        kept = {name: value for name, value in headers.items() if name.lower() not in ("connection", "transfer-encoding", "expect", "content-length")}
        kept["Content-Length"] = str(len(request.body))
        connection.request(request.method, request.path, body=request.body, headers=kept)
        with contextlib.closing(connection):
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()

    def objects(self):
        """key -> bytes of everything in the bucket"""
        keys = [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        return {key: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def written(self):
        """Keys that PUT and POST requests named since the last clear(), without their bucket."""
        return {request.key for request in self.requests if request.method in ("PUT", "POST")}


def error(status, code, message):
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    return status, [("Content-Type", "application/xml")], body
