"""A quantized model cut into stages at its integers, to compare two engines without drift.

One step more or less in one tensor moves everything behind it, so whole models say little about an
engine's arithmetic. A stage is what lies between one integer tensor and those before it: fed with the
same integers, two engines must give the same ones, or a neighbour where a sum falls between two."""

import numpy as np
import onnx
import onnxruntime

import engine

CUTS = {"QuantizeLinear": 1, "DynamicQuantizeLinear": 3, "MatMulInteger": 1, "ConvInteger": 1,
        "QLinearConv": 1, "QLinearMatMul": 1}
EXACT = ("MatMulInteger", "ConvInteger")  # sums of integers: there is nothing to round
DRIFT = 1e-4  # of floats behind the last integers, relative to their range


def session(model, exact=False):
    """exact: every node by itself, so that Q and DQ are computed in float and nothing saturates."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, (str, bytes)) else str(model)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class Stage:
    def __init__(self, node, op_type, outputs, inputs, graph):
        self.node, self.op_type, self.outputs, self.inputs, self.graph = (
            node, op_type, outputs, inputs, graph
        )


def is_cut(node):
    return node.op_type in CUTS


def subgraph_reads(node):
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
        for graph in graphs:
            for inner in graph.node:
                yield from inner.input
                yield from subgraph_reads(inner)


class Cut:
    """All stages of a model, and the integers that flow between them for one feed."""

    def __init__(self, path, feed):
        self.model = onnx.load(path)
        graph = self.model.graph
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.constants = {one.name: one for one in graph.initializer}
        self.types = {one.name: one for one in graph.input}
        self.feed = feed
        self.values = self._values()

    def _values(self):
        """By ONNX Runtime, every node by itself."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.model)
        known = {one.name for one in whole.graph.output}
        names = [
            name for node in self.model.graph.node if is_cut(node)
            for name in node.output if name and name not in known
        ]
        whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        names = [one.name for one in whole.graph.output]
        results = session(whole.SerializeToString(), exact=True).run(names, self.feed)
        return {**self.feed, **dict(zip(names, results))}

    def stages(self):
        for node in self.model.graph.node:
            if is_cut(node):
                yield self.stage(node.name or node.output[0], node.op_type, list(node.output))
        done = {name for node in self.model.graph.node if is_cut(node) for name in node.output}
        for one in self.model.graph.output:
            if one.name not in done:
                yield self.stage(one.name, "", [one.name])

    def stage(self, label, op_type, outputs):
        order = {id(node): i for i, node in enumerate(self.model.graph.node)}
        nodes, constants, inputs, seen = {}, {}, {}, set()
        todo = [(name, True) for name in outputs]
        while todo:
            name, is_root = todo.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            node = self.producer.get(name)
            if name in self.constants:
                constants[name] = self.constants[name]
            elif node is None or (is_cut(node) and not is_root):
                inputs[name] = self.values[name]
            else:
                nodes[order[id(node)]] = node
                todo += [(one, False) for one in (*node.input, *subgraph_reads(node))
                         if one in self.producer or one in self.constants or one in self.values]
        part = onnx.ModelProto()
        part.ir_version = self.model.ir_version
        part.opset_import.extend(self.model.opset_import)
        part.graph.name = "stage"
        part.graph.node.extend(nodes[i] for i in sorted(nodes))
        part.graph.initializer.extend(constants.values())
        for name, value in inputs.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            part.graph.input.append(
                onnx.helper.make_tensor_value_info(name, kind, list(value.shape))
            )
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name)
        part = onnx.shape_inference.infer_shapes(part)
        return Stage(label, op_type, outputs, inputs, part.SerializeToString())


def run_ours(graph, feed):
    model = engine.Model(graph)
    model.plan(feed)
    return model.run()


def distance(ours, theirs):
    """(largest difference, share that differs): steps of integers, else relative to the range."""
    if np.issubdtype(theirs.dtype, np.integer):
        apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        return float(apart.max(initial=0)), float(np.mean(apart != 0)) if apart.size else 0.0
    span = float(np.ptp(theirs)) or max(float(np.abs(theirs).max(initial=0)), 1.0)
    return float(np.abs(ours - theirs).max(initial=0)) / span, 0.0


def compare(path, feed):
    """Every stage of a model in both engines. Dict of what was found, with the stages that fail."""
    found = {"stages": 0, "equal": 0, "steps": 0, "differ": 0.0, "drift": 0.0, "wrong": []}
    for stage in Cut(path, feed).stages():
        theirs = session(stage.graph).run(None, stage.inputs)
        ours = run_ours(stage.graph, stage.inputs)
        found["stages"] += 1
        for a, b in zip(ours, theirs):
            apart, share = distance(a, b)
            if not np.issubdtype(b.dtype, np.integer):
                found["drift"] = max(found["drift"], apart)
                good = apart <= DRIFT
            else:
                found["steps"] = max(found["steps"], int(apart))
                found["differ"] = max(found["differ"], share)
                found["equal"] += apart == 0
                good = apart <= (0 if stage.op_type in EXACT else 1)
            if not good:
                found["wrong"].append(f"{stage.node}: {apart:.3g}")
    return found
