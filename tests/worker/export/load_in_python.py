"""Stock Python torch loads the exported model and gives the reference's outputs. Usage: load_in_python.py EXPORT GOLDEN"""
import json
import pathlib
import struct
import sys

import torch

TYPES = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        raw = bytearray(data[begin:end]) or bytearray(8)
        count = 1
        for extent in entry["shape"]:
            count *= extent
        tensors[name] = torch.frombuffer(raw, dtype=TYPES[entry["dtype"]])[:count].reshape(entry["shape"]).clone()
    return tensors


def main(export, golden):
    model = torch.jit.load(str(export / "scripted_model.pt"))
    inputs = read_safetensors(golden / "inputs32.safetensors")
    expected = read_safetensors(golden / "outputs32.safetensors")
    for arguments in ((inputs,), (inputs, "cpu")):
        outputs = model(*arguments)
        assert sorted(outputs) == sorted(expected), sorted(outputs)
        for name, want in expected.items():
            difference = (outputs[name] - want).abs().max().item()
            assert difference <= 1e-6, (name, difference)
    state = read_safetensors(golden / "scripted_state.safetensors")
    if golden.name == "QUANT_EMB=0":
        assert sorted(model.state_dict()) == sorted(state)
    try:
        model({})
    except Exception:  # a missing key has to fail
        print("ok: torch", torch.__version__, "loads the export; outputs agree to 1e-6")
        return
    raise AssertionError("an empty dictionary was accepted")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
