"""Compiles an exported model with the Python side of torch: AOTInductor packages and ONNX.

Usage: python compile.py SPEC.json        (made and run by worker/export/compiler.cpp)
Exit status 78: this Python cannot compile; the last line says what it lacks.

SPEC: task        "dense_package" | "whole_package" | "onnx"
      module      a scripted_model.pt: tables under their state names, and the method model.dense_forward(pooled, dense, and of each
                  sequence group its query, if it has one, its sequence, its lengths and its mask)
      output      file to write
      pooled, dense: {"name", "width"} of the boundary tensors, outputs: names of what dense_forward returns
      sequences   the sequence groups: names and widths at the boundary, and what their parts are made from
      sparse, dense_features, dense_sequences, tables, lookups, tile: how the whole model looks up (whole_package)
      device      "cpu" or "cuda"; matmul_tf32, cudnn_tf32: of CUDA code; autocast "" | "BF16" | "FP16": of packages

The traced graph of the dense part is read from the file and run operator by operator under torch.export, so that this
script knows no model.
"""
import json
import sys

LACKING = 78


def lack(what):
    print(what, file=sys.stderr)
    sys.exit(LACKING)


try:
    import torch
except ImportError as error:
    lack(f"{sys.executable}: {error}")

UNPACK = {"INT8": (8, 8), "INT4": (4, 4), "INT2": (2, 4)}  # bits, bytes of scale and bias behind the codes
SAMPLE_ROWS = 7  # traces the graph and sizes nothing


def slice_up_to(tensor, axis, start, end, step):
    """aten::slice. Of an axis without a known size zeros follow, so that whether it ends before the slice does is no
    condition of the program: behind the positions of a sequence there are zeros anyway."""
    if not isinstance(tensor.shape[axis], int) and 0 <= start < end < 2**62:
        tensor = torch.constant_pad_nd(tensor, [0, 0] * (tensor.dim() - 1 - axis) + [0, end])
    return torch.ops.aten.slice.Tensor(tensor, axis, start, end, step)


class TracedGraph(torch.nn.Module):
    """A traced TorchScript method as Python: its operators one after another, its parameters as buffers."""

    def __init__(self, script, method):
        super().__init__()
        graph = getattr(script, method).inlined_graph
        self.inputs = [value.debugName() for value in graph.inputs()][1:]
        self.outputs = [value.debugName() for value in graph.outputs()]
        self.constants, self.tensors, self.steps = {}, {}, []
        modules = {next(graph.inputs()).debugName(): script}
        for node in graph.nodes():
            names = [value.debugName() for value in node.inputs()]
            output = node.output().debugName() if node.outputsSize() == 1 else None
            if node.kind() == "prim::GetAttr":
                value = getattr(modules[names[0]], node.s("name"))
                if isinstance(value, torch.Tensor):
                    attribute = f"tensor{len(self.tensors)}"
                    self.register_buffer(attribute, value.detach())
                    self.tensors[output] = attribute
                else:
                    modules[output] = value
            elif node.kind() == "prim::Constant":
                value = node.output().toIValue()
                if isinstance(value, torch.Tensor):
                    attribute = f"tensor{len(self.tensors)}"
                    self.register_buffer(attribute, value.detach())
                    self.tensors[output] = attribute
                else:
                    self.constants[output] = value
            else:
                self.steps.append((self.operator(node), names, [value.debugName() for value in node.outputs()]))

    @staticmethod
    def operator(node):
        kind = node.kind()
        if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
            return lambda *values: (list(values),)
        if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            return lambda values: tuple(values)
        if kind in ("prim::NumToTensor", "aten::Int", "aten::IntImplicit", "aten::ScalarImplicit"):
            return lambda value: (value,)
        if kind == "aten::size" and node.inputsSize() == 2:
            return lambda tensor, axis: (tensor.shape[axis],)
        if kind == "aten::slice":
            return lambda tensor, axis, start, end, step: (slice_up_to(tensor, axis, start, end, step),)
        namespace, name = kind.split("::")
        overload = node.schema().split("(")[0].split(".")
        packet = getattr(getattr(torch.ops, namespace), name)
        function = getattr(packet, overload[1] if len(overload) > 1 else "default")
        count = node.outputsSize()
        keywords = [argument.name for argument in function._schema.arguments if argument.kwarg_only]
        places = len(function._schema.arguments) - len(keywords)

        def call(*values):
            result = function(*values[:places], **dict(zip(keywords, values[places:])))
            return (result,) if count == 1 else tuple(result)
        return call

    def forward(self, *arguments):
        known = {**self.constants, **dict(zip(self.inputs, arguments))}
        known.update({name: getattr(self, attribute) for name, attribute in self.tensors.items()})
        for function, names, results in self.steps:
            known.update(zip(results, function(*(known[name] for name in names))))
        values = [known[name] for name in self.outputs]
        return values[0] if len(values) == 1 and isinstance(values[0], list) else values


class DenseModel(torch.nn.Module):
    """Boundary tensors by name in, outputs by name out."""

    def __init__(self, spec, script):
        super().__init__()
        self.spec, self.traced = spec, TracedGraph(script.model, "dense_forward")

    def forward(self, data):
        some = next(iter(data.values()))
        arguments = [data[part["name"]] if part["width"] > 0 else torch.zeros([some.shape[0], 0], device=some.device)
                     for part in (self.spec["pooled"], self.spec["dense"])]
        for group in self.spec["sequences"]:
            arguments += [data[group["query"]]] if group["query"] else []
            if group["sequence"]:
                sequence, length = data[group["sequence"]], data[group["length"]]
                mask = torch.arange(sequence.shape[1], device=length.device).unsqueeze(0) < length.unsqueeze(1)
                arguments += [sequence, length, mask]
        kind = {"BF16": torch.bfloat16, "FP16": torch.float16}.get(self.spec["autocast"])
        with torch.autocast(some.device.type, dtype=kind, enabled=kind is not None):
            outputs = self.traced(*arguments)
        return dict(sorted(zip(self.spec["outputs"], outputs)))


class WholeModel(torch.nn.Module):
    """Raw inputs (features.md 9) in, outputs out: the lookups as plain tensor operators, which the compiler fuses."""

    def __init__(self, spec, script):
        super().__init__()
        self.spec, self.dense_model = spec, DenseModel(spec, script)
        self.tables = []
        for number, table in enumerate(spec["tables"]):
            weights = script
            for part in table["state_name"].split("."):
                weights = getattr(weights, part)
            self.register(number, weights.detach(), table)

    def register(self, number, weights, table):
        if table["type"] not in UNPACK:
            self.register_buffer(f"codes{number}", weights)
            return
        bits, tail = UNPACK[table["type"]]
        self.register_buffer(f"codes{number}", weights[:, :-tail].contiguous())
        kind = torch.float32 if tail == 8 else torch.float16
        self.register_buffer(f"range{number}", weights[:, -tail:].contiguous().view(kind).float())

    def rows(self, number, ids):
        """Ids outside the table count as row 0."""
        table = self.spec["tables"][number]
        ids = torch.where((ids < 0) | (ids >= table["rows"]), torch.zeros_like(ids), ids)
        codes = getattr(self, f"codes{number}")[ids]
        if table["type"] not in UNPACK:
            return codes.float()
        bits, _ = UNPACK[table["type"]]
        if bits < 8:  # the first of a byte's values is in its low bits
            shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
            codes = ((codes.unsqueeze(2) >> shifts) & ((1 << bits) - 1)).flatten(1)
        scale, bias = getattr(self, f"range{number}")[ids].unbind(1)
        return codes.float() * scale.unsqueeze(1) + bias.unsqueeze(1)

    def bag(self, lookup, data):
        values, lengths = data[lookup["feature"] + ".values"], data[lookup["feature"] + ".lengths"]
        rows = self.rows(lookup["table"], values)
        if not lookup["sequence"] and (lookup["feature"] + ".weights") in data:
            rows = rows * data[lookup["feature"] + ".weights"].unsqueeze(1)
        # Which bag a value belongs to: the number of bags that end at or before it.
        ends = torch.cumsum(lengths, 0)
        owner = torch.searchsorted(ends, torch.arange(values.shape[0], device=values.device), right=True)
        pooled = rows.new_zeros([lengths.shape[0], rows.shape[1]]).index_add(0, owner, rows)
        return pooled / lengths.clamp(min=1).unsqueeze(1) if lookup["mean"] else pooled

    def first(self, lookup, data):
        """Of several ids of a row the first; zeros for a row without one."""
        values, lengths = data[lookup["feature"] + ".values"], data[lookup["feature"] + ".lengths"]
        some = lengths > 0
        ids = torch.cat([values, values.new_zeros([1])])[torch.where(some, torch.cumsum(lengths, 0) - lengths, 0)]
        return self.rows(lookup["table"], ids) * some.unsqueeze(1)

    def elements(self, part, data):
        """Of a sequence: its rows [E, width] one after the other, its lengths [B], and who it is."""
        if "dense" in part:
            feature = self.spec["dense_sequences"][part["dense"]]
            return data[feature["name"] + ".values"], data[feature["name"] + ".lengths"].long(), feature
        lookup = self.spec["lookups"][part["lookup"]]
        values, lengths = data[lookup["feature"] + ".values"], data[lookup["feature"] + ".lengths"]
        return self.rows(lookup["table"], values), lengths, lookup

    @staticmethod
    def pad(rows, lengths, position):
        """rows [E, D] of sequences of these lengths -> [B, T, D], zeros behind each row's end."""
        inside = position < lengths.unsqueeze(1)
        first = (torch.cumsum(lengths, 0) - lengths).unsqueeze(1)
        some = torch.cat([rows, rows.new_zeros([1, rows.shape[1]])])
        return some[torch.where(inside, first + position, 0)] * inside.unsqueeze(2)

    def batch(self, data):
        """Rows of the request: those of any feature that is not the user's."""
        for feature in self.spec["sparse"]:
            if not feature["tile"]:
                return data[feature["name"] + ".lengths"].shape[0]
        for feature in self.spec["dense_features"]:
            if not feature["tile"]:
                return data[feature["name"] + ".values"].shape[0]
        for feature in self.spec["dense_sequences"]:
            if not feature["tile"]:
                return data[feature["name"] + ".lengths"].shape[0]
        raise AssertionError("no feature is an item's")

    def forward(self, data):
        def tiled(part, block):
            # User by user, again and again, as repeat() does it; batch_size is then known from the shapes.
            return block[torch.arange(rows, device=block.device) % block.shape[0]] if part["tile"] else block

        rows = self.batch(data) if self.spec["tile"] else None
        names = {}
        lookups = [lookup for lookup in self.spec["lookups"] if not lookup["sequence"]]
        if lookups:
            names[self.spec["pooled"]["name"]] = torch.cat([tiled(lookup, self.bag(lookup, data)) for lookup in lookups], 1)
        dense = [tiled(feature, data[feature["name"] + ".values"]) for feature in self.spec["dense_features"]]
        if dense:
            names[self.spec["dense"]["name"]] = dense = torch.cat(dense, 1)
        for group in self.spec["sequences"]:
            names.update(self.sequence(group, data, dense, tiled))
        return self.dense_model(names)

    def sequence(self, group, data, dense, tiled):
        """The boundary tensors of a sequence group."""
        made = {group["query"]: self.query(group, data, dense, tiled)} if group["query"] else {}
        if not group["sequence"]:
            return made
        parts = [self.elements(part, data) for part in group["parts"]]
        lengths = parts[0][1]
        longest = 1
        if group["most"] != 1:  # two positions, where there is one or none: one is a special case to the compiler
            longest = torch.clamp(lengths.max(), min=2, max=group["most"] or None).item()
            torch._check(longest >= 2)
            torch._check(longest <= 999999993)
        position = torch.arange(longest, device=lengths.device).unsqueeze(0)
        made[group["length"]] = tiled(parts[0][2], lengths)
        made[group["sequence"]] = torch.cat([tiled(owner, self.pad(rows, of, position)) for rows, of, owner in parts], 2)
        return made

    def query(self, group, data, dense, tiled):
        parts = []
        for part in group["query_parts"]:
            if "column" in part:
                parts.append(dense[:, part["column"]:part["column"] + part["width"]])
            else:
                lookup = self.spec["lookups"][part["lookup"]]
                parts.append(tiled(lookup, (self.first if lookup["first_only"] else self.bag)(lookup, data)))
        return torch.cat(parts, 1)


def boundary_sample(spec):
    """Boundary tensors of a few rows, and which axes may change."""
    batch = torch.export.Dim("batch", min=1, max=499999999)
    data = {part["name"]: torch.randn(SAMPLE_ROWS, part["width"]) for part in (spec["pooled"], spec["dense"]) if part["width"] > 0}
    shapes = {name: {0: batch} for name in data}
    for number, group in enumerate(spec["sequences"]):
        if group["query"]:
            data[group["query"]], shapes[group["query"]] = torch.randn(SAMPLE_ROWS, group["query_width"]), {0: batch}
        if group["sequence"]:
            positions = SAMPLE_ROWS + 2 + number
            data[group["sequence"]] = torch.randn(SAMPLE_ROWS, positions, group["sequence_width"])
            shapes[group["sequence"]] = {0: batch, 1: torch.export.Dim(f"seq_len_{number}", min=1, max=999999993)}
            data[group["length"]] = torch.arange(positions - SAMPLE_ROWS + 1, positions + 1)
            shapes[group["length"]] = {0: batch}
    return {name: data[name].to(spec["device"]) for name in sorted(data)}, {name: shapes[name] for name in sorted(data)}


def raw_sample(spec):
    """Raw inputs of a few rows (one user's, where they are tiled), and which axes may change."""
    batch = torch.export.Dim("batch", min=1, max=499999999)
    users = torch.export.Dim("users", min=1, max=499999999)
    data, shapes = {}, {}
    for feature in spec["sparse"]:
        rows, axis = (2, users) if feature["tile"] else (SAMPLE_ROWS, batch)
        count = torch.export.Dim("values_" + str(feature["index"]), min=0, max=999999993)
        lengths = torch.full([rows], 2, dtype=torch.int64)
        lengths[0] += feature["index"]  # no two features have the same number of values
        total = int(lengths.sum())
        parts = {".values": (torch.zeros(total, dtype=torch.int64), count), ".lengths": (lengths, axis)}
        if feature["weighted"]:
            parts[".weights"] = (torch.ones(total), count)
        for suffix, (tensor, axis) in parts.items():
            data[feature["name"] + suffix], shapes[feature["name"] + suffix] = tensor, {0: axis}
    for feature in spec["dense_features"]:
        rows, axis = (2, users) if feature["tile"] else (SAMPLE_ROWS, batch)
        data[feature["name"] + ".values"], shapes[feature["name"] + ".values"] = torch.randn(rows, feature["width"]), {0: axis}
    for number, feature in enumerate(spec["dense_sequences"]):
        rows, axis = (2, users) if feature["tile"] else (SAMPLE_ROWS, batch)
        lengths = torch.full([rows], 2, dtype=torch.int32)
        lengths[0] += len(spec["sparse"]) + number
        count = torch.export.Dim("numbers_" + str(number), min=0, max=999999993)
        data[feature["name"] + ".values"], shapes[feature["name"] + ".values"] = torch.randn(int(lengths.sum()), feature["width"]), {0: count}
        data[feature["name"] + ".lengths"], shapes[feature["name"] + ".lengths"] = lengths, {0: axis}
    if spec["tile"]:
        data["batch_size"], shapes["batch_size"] = torch.tensor(4), {}
    return {name: data[name].to(spec["device"]) for name in sorted(data)}, {name: shapes[name] for name in sorted(data)}


def package(model, sample, shapes, output):
    with torch.no_grad():
        program = torch.export.export(model, (sample,), dynamic_shapes=(shapes,), strict=False)
        torch._inductor.aoti_compile_and_package(program, package_path=output, inductor_configs={
            # CUDA kernels are tried on the sample: the random numbers that they are tried on otherwise are no ids.
            "triton.autotune_at_compile_time": False,
            # A header compiled for one use gains nothing, and its checksum needs an openssl program.
            "aot_inductor.precompile_headers": False,
        })


class Positional(torch.nn.Module):
    """ONNX knows no dictionaries."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors):
        return tuple(self.model(dict(zip(self.names, tensors))).values())


def onnx(model, spec, output):
    sample, _ = boundary_sample(spec)
    names, outputs = list(sample), sorted(spec["outputs"])
    axes = {name: {0: "batch"} for name in names + outputs}
    for number, group in enumerate(spec["sequences"]):
        if group["sequence"]:
            axes[group["sequence"]][1] = f"seq_len_{number}"
    torch.onnx.export(Positional(model, names), tuple(sample.values()), output, dynamo=False, opset_version=17,
                      input_names=names, output_names=outputs, dynamic_axes=axes)


def main(path):
    with open(path) as file:
        spec = json.load(file)
    if torch.__version__.split("+")[0] != spec["torch"]:
        lack(f"{sys.executable} has torch {torch.__version__}; torch {spec['torch']} is needed")
    if spec["device"] == "cuda" and not torch.cuda.is_available():
        lack("device cuda: this machine has no usable GPU")
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = spec["matmul_tf32"], spec["cudnn_tf32"]
    script = torch.jit.load(spec["module"], map_location=spec["device"]).eval()
    if spec["task"] == "whole_package":
        package(WholeModel(spec, script).eval(), *raw_sample(spec), spec["output"])
    elif spec["task"] == "dense_package":
        package(DenseModel(spec, script).eval(), *boundary_sample(spec), spec["output"])
    else:
        try:
            import onnx as _
        except ImportError as error:
            lack(f"{sys.executable}: {error}")
        # Float32: what runs the model chooses its own precision.
        onnx(DenseModel({**spec, "autocast": ""}, script).eval(), spec, spec["output"])


main(sys.argv[1])
