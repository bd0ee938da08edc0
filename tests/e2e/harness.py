"""What the end-to-end tests share: running the programs, finding workers, reading what they wrote."""
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["ANNEAL_BUILD"])
ANNEAL = BUILD / "bin/anneal"
OPERATOR = BUILD / "bin/anneal-operator"
GOLDEN = ROOT / "../shared/golden"
ON_GPU = os.environ.get("ANNEAL_DEVICE") == "cuda"
# Hosts and ranks of each. On GPUs two hosts with one rank: NCCL takes a device once per host, and there may be but one.
TWO_RANKS = (2, 1) if ON_GPU else (1, 2)


class Case(unittest.TestCase):
    """A test with an empty folder of its own."""

    def setUp(self):
        self.dir = pathlib.Path.cwd() / self.id().split(".", 1)[1]
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)

    def run_program(self, *command, expect=0, env=None, timeout=600, cwd=None):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout,
                              env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}, cwd=cwd or self.dir)
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, expect, text[-4000:])
        return text

    def launch(self, hosts, per_host, *command, env=None):
        """Ranks of `anneal` on hosts, which are launchers of one machine: they find each other by a port, and NCCL tells
        them apart by its HOSTID. Returns what the first wrote."""
        port = free_port()
        runs = [subprocess.Popen([str(c) for c in (ANNEAL, "launch", "--nnodes", hosts, "--node-rank", host, "--master-port", port,
                                                   "--nproc-per-node", per_host, "--", *command)], cwd=self.dir,
                                 env={**os.environ, "OMP_NUM_THREADS": "1", "NCCL_HOSTID": f"host-{host}", **(env or {})},
                                 stderr=subprocess.PIPE, text=True)
                for host in range(hosts)]
        texts = [run.communicate(timeout=300)[1] for run in runs]
        self.assertEqual([run.returncode for run in runs], [0] * hosts, texts[0][-3000:])
        return texts[0]


def no_room():
    """For preexec_fn: to the process the disk is full for any file of more than 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))


def free_port():
    """Outside of the ports that the kernel gives to outgoing connections: nobody gets it by chance before it is used."""
    first, last = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    outside = [port for port in range(10000, 60000) if not first <= port <= last] or range(10000, 60000)
    for port in random.sample(outside, min(200, len(outside))):
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            continue
    raise AssertionError("no free port")


def edits(**values):
    return json.dumps({key.replace("__", "."): value for key, value in values.items()})


def read_safetensors(path):
    """name -> raw bytes"""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    return {name: data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]]
            for name, entry in header.items() if name != "__metadata__"}


def weights(checkpoint):
    merged = {}
    for path in sorted(pathlib.Path(checkpoint).glob("model-*.safetensors")):
        for name, raw in read_safetensors(path).items():
            merged[name] = merged.get(name, b"") + raw
    return merged


def scalars(folder):
    """(tag, step) -> value of the event files in a folder"""
    found = {}
    for path in pathlib.Path(folder).glob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            length = struct.unpack("<Q", data[at:at + 8])[0]
            fields = list(wire(data[at + 12:at + 12 + length]))
            at += 16 + length
            step = next((value for number, value in fields if number == 2), 0)
            for number, value in fields:
                if number == 5:
                    for _, entry in wire(value):
                        parts = dict(wire(entry))
                        found[parts[1].decode(), step] = struct.unpack("<f", parts[2])[0]
    return found


def wire(data):
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        size = {0: None, 1: 8, 5: 4}.get(key & 7, -1)
        if size is None:
            yield key >> 3, varint()
        else:
            size = varint() if size == -1 else size
            yield key >> 3, data[at:at + size]
            at += size


def processes(*words):
    """pids whose command line holds all words"""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found


def kill_when(condition, pids, number=signal.SIGKILL, seconds=60):
    """Waits for the condition, then sends the signal to one of the processes that pids() finds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            victims = pids()
            if victims:
                os.kill(victims[0], number)
                return victims[0]
        time.sleep(0.005)
    raise AssertionError("the moment to kill never came")
