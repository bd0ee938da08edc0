"""Runs an ONNX model with ONNX Runtime, and builds a TensorRT engine from it.

Usage: python onnx_tools.py SPEC.json     (made and run by worker/export/compiler.cpp)
Exit status 78: this Python cannot do it; the last line says what it lacks.

SPEC: task    "run_onnx" | "tensorrt"
      onnx    the model
      inputs  safetensors files, each of a batch's inputs (run_onnx)
      output  safetensors file of all rows' outputs, or the engine, to write
      max_batch, max_sequence, tf32, precision ("" | "BF16" | "FP16")   of the engine
"""
import json
import struct
import sys

LACKING = 78


def lack(what):
    print(what, file=sys.stderr)
    sys.exit(LACKING)


def read(path):
    import numpy
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            kind = {"F32": numpy.float32, "I64": numpy.int64}[entry["dtype"]]
            tensors[name] = numpy.frombuffer(data[begin:end], kind).reshape(entry["shape"])
    return tensors


def write(path, tensors):
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values()))


def run_onnx(spec):
    try:
        import onnxruntime
    except ImportError as error:
        lack(f"{sys.executable}: {error}")
    import numpy
    session = onnxruntime.InferenceSession(spec["onnx"], providers=["CPUExecutionProvider"])
    names, batches = [output.name for output in session.get_outputs()], []
    for path in spec["inputs"]:
        inputs = read(path)
        batches.append(session.run(names, {part.name: inputs[part.name] for part in session.get_inputs()}))
    write(spec["output"], dict(zip(names, map(numpy.concatenate, zip(*batches)))))


def tensorrt(spec):
    try:
        import tensorrt as trt
    except ImportError as error:
        lack(f"{sys.executable}: {error}")
    try:
        builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    except (TypeError, RuntimeError):
        lack("TensorRT found no usable GPU on this machine")
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse_from_file(spec["onnx"]):
        sys.exit("TensorRT cannot read the model: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 2 << 30)
    if not spec["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if spec["precision"]:
        config.set_flag(getattr(trt.BuilderFlag, spec["precision"]))
    config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        part = network.get_input(number)
        # Axis 0 is the batch; another one without a size is the positions of a sequence.
        most = [size if size >= 0 else spec["max_sequence" if axis else "max_batch"] for axis, size in enumerate(part.shape)]
        least = [size if size >= 0 else 1 for size in part.shape]
        profile.set_shape(part.name, least, [max(low, min(64, high)) if low != high else high for low, high in zip(least, most)], most)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        sys.exit("TensorRT made no engine")
    with open(spec["output"], "wb") as file:
        file.write(engine)


def main(path):
    with open(path) as file:
        spec = json.load(file)
    run_onnx(spec) if spec["task"] == "run_onnx" else tensorrt(spec)


main(sys.argv[1])
