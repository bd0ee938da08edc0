#!/usr/bin/env python3
"""Fetches the pinned wheels of one set in pins.json, checks them and unpacks them.

Usage: fetch.py SET --into DIR      SET: build | movielens | ... (a key of pins.json)

Idempotent: what is unpacked with the pinned checksum is left alone. An interrupted download is
continued where it stopped. The package index is the one pip is configured for (PIP_INDEX_URL,
pip.conf, or pip's own default). Exit status: 0 done, 1 with one line saying what is wrong.
"""
import argparse
import hashlib
import html.parser
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
CHUNK = 1 << 20
ATTEMPTS = 5


class FetchError(Exception):
    """Something the user has to mend: message is one line."""


def index_url():
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    for key in ("global.index-url", "install.index-url", "download.index-url"):
        found = subprocess.run([sys.executable, "-m", "pip", "config", "get", key], capture_output=True, text=True)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.strip()
    try:
        from pip._internal.models.index import PyPI
        return PyPI.simple_url
    except ImportError:
        raise FetchError("no package index is known: install python3-pip or set PIP_INDEX_URL")


def tls_context():
    cert = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=cert if cert and os.path.isfile(cert) else None)


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.hrefs = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href"]


def open_url(url, offset=0):
    parts = urllib.parse.urlsplit(url)
    headers = {"User-Agent": "anneal-deps"}
    if parts.username:
        import base64
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        url = urllib.parse.urlunsplit(parts._replace(netloc=host))
    if offset:
        headers["Range"] = f"bytes={offset}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60, context=tls_context())


def locate(pin):
    page = index_url().rstrip("/") + f"/{pin['project']}/"
    with open_url(page) as reply:
        links = Links()
        links.feed(reply.read().decode("utf-8", "replace"))
        base = reply.geturl()
    for href in links.hrefs:
        url = urllib.parse.urljoin(base, href)
        if urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1] == pin["file"]:
            return urllib.parse.urldefrag(url)[0]
    raise FetchError(f"the package index has no {pin['file']}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


class Progress:
    """A live line on a terminal, one line every five seconds otherwise."""

    def __init__(self, label, total):
        self.label, self.total, self.last = label, total, 0.0
        self.live = sys.stderr.isatty()

    def show(self, done, final=False):
        now = time.monotonic()
        if not final and now - self.last < (0.2 if self.live else 5.0):
            return
        self.last = now
        text = f"deps: {self.label}  {done / 1e6:.0f} / {self.total / 1e6:.0f} MB"
        print(("\r" + text if self.live else text), end="" if self.live and not final else "\n", file=sys.stderr, flush=True)


def download(pin, cache):
    target, part = cache / pin["file"], cache / (pin["file"] + ".part")
    if target.exists() and target.stat().st_size == pin["bytes"] and sha256(target) == pin["sha256"]:
        return target
    progress, problem = Progress(pin["file"], pin["bytes"]), None
    for attempt in range(ATTEMPTS):
        try:
            have = part.stat().st_size if part.exists() else 0
            if have > pin["bytes"]:
                part.unlink()
                have = 0
            if have < pin["bytes"]:
                with open_url(locate(pin), have) as reply:
                    if have and reply.status != 206:
                        have = 0
                    with open(part, "ab" if have else "wb") as file:
                        while block := reply.read(CHUNK):
                            file.write(block)
                            have += len(block)
                            progress.show(have)
            if have < pin["bytes"]:
                raise urllib.error.URLError("connection closed early")
            progress.show(have, final=True)
            break
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            problem = getattr(error, "reason", error)
            print(f"deps: {pin['file']}: {problem}; attempt {attempt + 1} of {ATTEMPTS}", file=sys.stderr)
            time.sleep(2 ** attempt)
    else:
        raise FetchError(f"network: could not download {pin['file']}: {problem} (what was received is kept; run again to continue)")
    if sha256(part) != pin["sha256"]:
        part.unlink()
        raise FetchError(f"checksum: {pin['file']} is not the file that was pinned; it was removed")
    part.rename(target)
    return target


def unpack(pin, wheel, into):
    stage = into / (pin["project"] + ".unpacking")
    shutil.rmtree(stage, ignore_errors=True)
    only, drop = tuple(pin.get("only", [""])), tuple(pin.get("drop", []))
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.startswith(only) and not (drop and m.startswith(drop))]
        archive.extractall(stage, members)
    for entry in sorted(stage.iterdir()):
        merge(entry, into / entry.name)
    shutil.rmtree(stage)


def merge(source, target):
    """Moves source over target; folders that several wheels share (nvidia/) are joined."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            merge(entry, target / entry.name)
        return
    if target.exists():
        target.unlink()
    shutil.move(str(source), str(target))


def check_disk(into, pins):
    need = sum(p["bytes"] // (1 << 20) + p["unpacked_mib"] for p in pins)
    free = shutil.disk_usage(into).free >> 20
    if free < need + 200:
        raise FetchError(f"disk: {into} has {free} MiB free, {need + 200} MiB are needed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("--into", required=True, type=pathlib.Path)
    args = parser.parse_args()
    pins = json.loads((HERE / "pins.json").read_text())
    if args.set not in pins:
        raise FetchError(f"pins.json has no set '{args.set}'; it has {', '.join(pins)}")
    args.into.mkdir(parents=True, exist_ok=True)
    marks = args.into / "marks"
    marks.mkdir(exist_ok=True)
    missing = [p for p in pins[args.set] if not ((m := marks / p.get("mark", p["project"])).exists() and m.read_text() == p["sha256"])]
    if not missing:
        print(f"deps: {args.set}: all {len(pins[args.set])} packages are there", file=sys.stderr)
        return
    check_disk(args.into, missing)
    cache = args.into / "downloads"
    cache.mkdir(exist_ok=True)
    for number, pin in enumerate(missing, 1):
        print(f"deps: [{number}/{len(missing)}] {pin['project']} {pin['version']}", file=sys.stderr)
        wheel = download(pin, cache)
        unpack(pin, wheel, args.into / pin["into"] if pin["into"] else args.into)
        name = pin.get("mark", pin["project"])
        mark = marks / (name + ".new")
        mark.write_text(pin["sha256"])
        mark.rename(marks / name)
        wheel.unlink()


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        sys.exit(f"deps: {error}")
    except OSError as error:
        sys.exit(f"deps: {error.strerror or error}: {error.filename or ''}")
    except KeyboardInterrupt:
        sys.exit("deps: stopped; run again to continue")
