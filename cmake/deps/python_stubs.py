#!/usr/bin/env python3
"""Makes PyPI's CUDA build of torch importable without CUDA: stub libraries for the sonames it is linked to.

Usage: python_stubs.py WHEELS_DIR OUT_DIR    then: LD_LIBRARY_PATH=OUT_DIR PYTHONPATH=WHEELS_DIR:... python3.11

Only tests use this, to load what Anneal wrote with stock Python torch on the CPU; it saves 2.5 GB of CUDA wheels. The
stubs define the symbols that torch's libraries ask for, under the versions they ask for, as functions that do nothing:
they are never called on the CPU.
"""
import collections
import pathlib
import re
import subprocess
import sys

SYSTEM = re.compile(r"^(lib(c|m|dl|pthread|rt|stdc\+\+|gcc_s|util|gomp)\.so|ld-linux)")
CUDA = re.compile(r"^(cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvshmem|cuFile|nvrtc|nvJitLink|cu[A-Z]|nvml)")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(wheels, out):
    needed, plain, defined = set(), set(), set()
    by_version, versions = collections.defaultdict(set), collections.defaultdict(set)
    for library in sorted(wheels.glob("torch/lib/*.so")):
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", str(library))))
        for line in run("nm", "-D", "--undefined-only", str(library)).splitlines():
            words = line.split()
            if words[0] != "U":
                continue
            name, _, version = words[-1].partition("@")
            (by_version[version.lstrip("@")] if version else plain).add(name)
        defined |= {line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", str(library)).splitlines()}
        asked = None
        for line in run("readelf", "-V", "-W", str(library)).splitlines():
            if found := re.search(r"File: (\S+)", line):
                asked = found.group(1)
            if (found := re.search(r"Name: (\S+)\s+Flags", line)) and asked:
                versions[asked].add(found.group(1))
    there = {p.name for p in wheels.glob("torch/lib/*")} | {p.name for p in wheels.glob("nvidia/cu13/lib/*")}
    missing = sorted(n for n in needed if n not in there and not SYSTEM.match(n))
    out.mkdir(parents=True, exist_ok=True)
    for number, soname in enumerate(missing):
        symbols, script = set(), ""
        for version in sorted(versions.get(soname, ())):
            names = by_version[version]
            symbols |= names
            exported = "global: " + " ".join(n + ";" for n in sorted(names)) if names else ""
            script += f"{version} {{ {exported} }};\n"
        if number == 0:
            symbols |= {n for n in plain - defined if CUDA.match(n)}
        command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{soname}", "-o", str(out / soname)]
        if script:
            map_file = out / "versions.map"
            map_file.write_text(script)
            command.append(f"-Wl,--version-script={map_file}")
        source = "\n".join(f"void {name}(void) {{}}" for name in sorted(symbols))
        subprocess.run(command, input=source, text=True, check=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
