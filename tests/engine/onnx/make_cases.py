#!/usr/bin/python3
"""Makes the small ONNX files in cases/ (Debian's python3-onnx). The files are committed; run this
again only to change them. What each is for is said where it is made; the expected messages of the
broken ones are in test_load.c."""
import pathlib

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "cases"
FLOAT = TensorProto.FLOAT


def info(name, shape=(2, 2), dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name, value=None):
    value = np.arange(4, dtype=np.float32).reshape(2, 2) if value is None else value
    return numpy_helper.from_array(value, name)


def model(nodes=None, inputs=None, outputs=None, initializers=None, ir=8, opset=13, **more):
    """x MatMul w = h, Relu h = y, unless told otherwise."""
    graph = helper.make_graph(
        nodes if nodes is not None else
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
         helper.make_node("Relu", ["h"], ["y"], name="rectify")],
        "g", inputs or [info("x")], outputs or [info("y")],
        [weight("w")] if initializers is None else initializers, **more)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    m.ir_version = ir
    return m


def write(name, data):
    if not isinstance(data, bytes):
        data = data.SerializeToString()
    (HERE / f"{name}.onnx").write_bytes(data)


def varint(n):
    data = bytearray()
    while n >= 0x80:
        data.append(n & 0x7f | 0x80)
        n >>= 7
    data.append(n)
    return bytes(data)


def field(number, payload):
    """A length-delimited field, for what the library does not write."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def unknown(message, number):
    """Adds fields that this ONNX does not know: a varint and a text."""
    message.MergeFromString(varint(number << 3) + varint(4242) + field(number + 1, b"later"))


def everything():
    """Every field of every message, and unknown fields at every level."""
    sub = helper.make_graph([helper.make_node("Add", ["h", "one"], ["t"])], "then", [],
                            [info("t")], [weight("one")])
    other = helper.make_graph([helper.make_node("Identity", ["h"], ["e"])], "else", [],
                              [info("e")])
    deep = helper.make_graph(
        [helper.make_node("If", ["flag"], ["d"], then_branch=sub, else_branch=other)], "deep", [],
        [info("d")])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product", doc_string="a product"),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(
            np.float32([1, 2]), "c_value")),
        helper.make_node("If", ["flag"], ["i"], name="choose", then_branch=deep,
                         else_branch=other),
        helper.make_node("Extra", ["i", "", "texts", "sparse", "c"], ["y", "", "z"], name="extra",
                         domain="test.extra", f=0.5, i=-7, s=b"a\0b", t=weight("t_name"),
                         floats=[1.5, -2.0], ints=[1, -1, 2**62], strings=[b"p", b""]),
    ]
    m = model(nodes, [info("x", ("N", 2)), info("flag", (), TensorProto.BOOL)],
              [info("y", ("N", None)), info("z")], [weight("w")])
    extra = m.graph.node[3]
    for name, kind in (("tensors", AttributeProto.TENSORS),
                       ("type_protos", AttributeProto.TYPE_PROTOS)):
        attr = extra.attribute.add(name=name, type=kind)
        if name == "tensors":
            attr.tensors.append(weight("in_list"))
        else:
            attr.type_protos.append(info("p").type)
    extra.attribute[0].doc_string = "an attribute"

    m.graph.doc_string = "the graph"
    m.graph.initializer[0].doc_string = "the weight"
    m.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [2], [b"a", b"b"]))
    values = helper.make_tensor("sparse", FLOAT, [1], [3.0])
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(
        values, helper.make_tensor("", TensorProto.INT64, [1], [2]), [4]))
    m.graph.value_info.extend([info("h", ("N", 2)), info("gone")])
    m.graph.value_info[0].doc_string = "in between"
    m.graph.input[0].type.denotation = "TENSOR"
    m.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    sequence = m.graph.output[1].type
    sequence.Clear()
    sequence.sequence_type.elem_type.CopyFrom(info("p").type)
    m.graph.quantization_annotation.add(tensor_name="h").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w")

    m.producer_name, m.producer_version, m.domain = "make_cases", "1", "test"
    m.model_version, m.doc_string = 5, "the model"
    m.metadata_props.add(key="author", value="nobody")
    m.metadata_props.add(key="größe", value="")
    m.opset_import.add(domain="test.extra", version=1)
    function = m.functions.add(name="F", domain="test.extra", input=["a"], output=["b"])
    function.node.append(helper.make_node("Relu", ["a"], ["b"]))
    training = m.training_info.add()
    training.algorithm.CopyFrom(helper.make_graph(
        [helper.make_node("Identity", ["w"], ["new_w"])], "step", [], [info("new_w")]))
    training.update_binding.add(key="w", value="new_w")

    for number, message in enumerate((
            m, m.graph, m.graph.node[0], m.graph.node[1].attribute[0],
            m.graph.node[1].attribute[0].t, m.graph.initializer[0], m.graph.initializer[1],
            m.graph.input[0], m.graph.input[0].type, m.graph.input[0].type.tensor_type,
            m.graph.input[0].type.tensor_type.shape,
            m.graph.input[0].type.tensor_type.shape.dim[1], m.graph.value_info[0],
            m.graph.sparse_initializer[0], m.graph.quantization_annotation[0],
            m.metadata_props[0], m.opset_import[1], m.functions[0], m.training_info[0],
            m.graph.node[2].attribute[0].g.node[0])):
        unknown(message, 500 + 2 * number)
    return m


def typed():
    """Initializers in the typed fields; element 0, 1 are told in test_load.c."""
    kinds = {"float": ("float_data", FLOAT, [1.5, -2]),
             "int32": ("int32_data", TensorProto.INT32, [-(2**31), 7]),
             "int16": ("int32_data", TensorProto.INT16, [-32768, 7]),
             "int8": ("int32_data", TensorProto.INT8, [-128, 7]),
             "uint16": ("int32_data", TensorProto.UINT16, [65535, 7]),
             "uint8": ("int32_data", TensorProto.UINT8, [255, 7]),
             "bool": ("int32_data", TensorProto.BOOL, [1, 0]),
             "float16": ("int32_data", TensorProto.FLOAT16, [0x3c00, 0xc000]),
             "bfloat16": ("int32_data", TensorProto.BFLOAT16, [0x3f80, 0xc000]),
             "int64": ("int64_data", TensorProto.INT64, [-(2**53), 7]),
             "double": ("double_data", TensorProto.DOUBLE, [0.1, -2]),
             "uint32": ("uint64_data", TensorProto.UINT32, [2**32 - 1, 7]),
             "uint64": ("uint64_data", TensorProto.UINT64, [2**63, 7])}
    m = model()
    for name, (where, dtype, values) in kinds.items():
        t = m.graph.initializer.add(name=name, data_type=dtype, dims=[2])
        getattr(t, where).extend(values)
    m.graph.initializer.add(name="none", data_type=FLOAT, dims=[0, 3])
    return m


def edit(change, base=None):
    m = base or model()
    change(m)
    return m


def nest(depth):
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["o0"])], "s", [],
                              [info("o0")])
    for i in range(1, depth):
        node = helper.make_node("If", ["x"], [f"o{i}"], then_branch=graph)
        graph = helper.make_graph([node], "s", [], [info(f"o{i}")])
    return model([helper.make_node("If", ["x"], ["y"], name="top", then_branch=graph)])


def valid():
    m = everything()
    write("everything", m)
    write("typed", typed())
    # Before IR 4 initializers are inputs too.
    write("ir3", model(inputs=[info("x"), info("w")], ir=3, opset=7))
    # The file's order of nodes is not the order of computation.
    write("unsorted", edit(lambda m: m.graph.node.extend([m.graph.node.pop(0)])))
    # The same, with values that are declared.
    names = ["x", "a", "b", "c", "y"]
    nodes = [helper.make_node("Relu", [x], [y]) for x, y in zip(names, names[1:])]
    write("unsorted_declared", model(nodes=nodes[::-1], initializers=[],
                                     value_info=[info(name) for name in names[1:-1]]))
    # Data of a type of a newer ONNX, of which the engine cannot tell the IR 3 input.
    write("opaque", model(ir=3, opset=7, initializers=[
        TensorProto(name="w", dims=[2, 2], data_type=99, raw_data=bytes(16))]))
    constants = [helper.make_node("Constant", [], ["c0"], value_float=1.5),
                 helper.make_node("Constant", [], ["c1"], value_ints=[3, 4]),
                 helper.make_node("Constant", [], ["c2"], value_int=9),
                 helper.make_node("Constant", [], ["c3"], value_floats=[2.5]),
                 helper.make_node("Constant", [], ["c4"], value_string=b"text"),
                 helper.make_node("Unknown", ["x", "c0", "c1", "c2", "c3", "c4"], ["y"],
                                  domain="d")]
    m = model(constants, initializers=[])
    m.opset_import.add(domain="d", version=1)
    write("constants", m)


def broken_encoding():
    good = model().SerializeToString()
    write("empty", b"")
    write("text", b'{"this": "is JSON"}')
    write("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    write("truncated", good[:-30])
    write("cut_weight", good[:good.index(b"\x4a\x10") + 8])
    write("no_graph", model().SerializeToString()[:2])
    write("twice", good + field(7, b""))
    write("zero_tag", good + b"\0\0")
    write("long_varint", b"\x08" + b"\xff" * 11)
    write("wrong_wire", b"\x08\x08" + field(7, b"\x0a\x03\x20\x01\x00"))
    write("latin1", b"\x08\x08" + field(2, b"gr\xf6\xdfe"))
    write("zero_in_name", b"\x08\x08" + field(7, field(2, b"a\0b")))
    write("group", b"\x0b\x0c")
    write("odd_floats", b"\x08\x08" + field(7, field(5, field(4, b"\0\0\0\0\0"))))
    write("cut_packed", b"\x08\x08" + field(7, field(5, field(7, b"\x01\x80"))))
    write("nested_17", nest(17))
    # Types nest without subgraphs: sequences of sequences.
    sequence = b""
    for _ in range(100):
        sequence = field(4, field(1, sequence))
    write("nested_types", b"\x08\x08" + field(7, field(11, field(2, sequence))))


def broken_versions():
    write("no_ir", edit(lambda m: m.ClearField("ir_version")))
    write("ir2", model(ir=2))
    write("ir99", model(ir=99))
    write("no_opset", edit(lambda m: m.ClearField("opset_import")))
    write("opset6", model(opset=6))
    write("opset0", edit(lambda m: setattr(m.opset_import[0], "version", 0)))
    write("two_opsets", edit(lambda m: m.opset_import.add(domain="ai.onnx", version=12)))
    write("domain_of_the_engine", edit(lambda m: m.opset_import.add(domain="shrinkd.train", version=1)))
    write("no_domain", edit(lambda m: setattr(m.graph.node[1], "domain", "my.domain")))


def broken_names():
    node = helper.make_node
    write("unknown_input", model([node("Relu", ["nowhere"], ["y"], name="r")]))
    write("nameless_node", model([node("Relu", ["nowhere"], ["y"])]))
    write("output_missing", model(outputs=[info("nothing")]))
    write("output_twice", model(outputs=[info("y"), info("y")]))
    write("input_twice", model(inputs=[info("x"), info("x")]))
    write("input_nameless", model(inputs=[info("x"), info("")]))
    write("input_untyped", edit(lambda m: m.graph.input[0].ClearField("type")))
    write("initializer_twice", model(initializers=[weight("w"), weight("w")]))
    write("computed_twice", model([node("Relu", ["x"], ["y"], name="a"),
                                   node("Neg", ["x"], ["y"], name="b")]))
    write("computes_input", model([node("Relu", ["w"], ["x"], name="a")]))
    write("cycle", model([node("Add", ["x", "b"], ["a"], name="first"),
                          node("Relu", ["a"], ["b"], name="second"),
                          node("Relu", ["b"], ["y"], name="third")]))
    write("no_op_type", edit(lambda m: m.graph.node[0].ClearField("op_type")))
    write("long_name", edit(lambda m: setattr(m.graph.node[0], "name", "n" * 5000)))
    graph = helper.make_graph([node("Neg", ["lost"], ["o"])], "s", [], [info("o")])
    write("lost_capture", model([node("If", ["x"], ["y"], name="if", then_branch=graph)]))


def broken_attributes():
    def attr(change):
        m = model([helper.make_node("Softmax", ["x"], ["y"], name="s", axis=1)])
        change(m.graph.node[0])
        return m
    write("attr_twice", attr(lambda n: n.attribute.append(helper.make_attribute("axis", 2))))
    write("attr_no_type", attr(lambda n: n.attribute[0].ClearField("type")))
    write("attr_ref", attr(lambda n: setattr(n.attribute[0], "ref_attr_name", "a")))
    write("attr_no_tensor", attr(lambda n: n.attribute.add(name="t", type=AttributeProto.TENSOR)))
    write("attr_no_graph", attr(lambda n: n.attribute.add(name="g", type=AttributeProto.GRAPH)))
    write("attr_short_tensor", attr(lambda n: n.attribute.add(
        name="t", type=AttributeProto.TENSOR).t.MergeFrom(
            TensorProto(dims=[3], data_type=FLOAT, float_data=[1]))))


def broken_tensors():
    def tensor(**fields):
        return model(initializers=[TensorProto(name="w", **fields)])
    raw = bytes(16)
    write("short_raw", tensor(dims=[2, 2], data_type=FLOAT, raw_data=raw[:12]))
    write("short_typed", tensor(dims=[2, 2], data_type=FLOAT, float_data=[1, 2, 3]))
    write("no_data", tensor(dims=[2, 2], data_type=FLOAT))
    write("data_twice", tensor(dims=[4], data_type=FLOAT, raw_data=raw, float_data=[0] * 4))
    write("wrong_field", tensor(dims=[2], data_type=FLOAT, int64_data=[1, 2]))
    write("no_dtype", tensor(dims=[4], raw_data=raw))
    write("negative_dim", tensor(dims=[2, -2], data_type=FLOAT, raw_data=raw))
    write("huge_dims", tensor(dims=[2**40, 2**40], data_type=FLOAT, raw_data=raw))
    write("many_elements", tensor(dims=[2**20, 2**12], data_type=FLOAT, raw_data=raw))
    write("rank9", tensor(dims=[1] * 9, data_type=FLOAT, raw_data=raw[:4]))
    write("int8_300", tensor(dims=[2], data_type=TensorProto.INT8, int32_data=[1, 300]))
    write("segment", tensor(dims=[4], data_type=FLOAT, raw_data=raw,
                            segment=TensorProto.Segment(begin=0, end=4)))
    external = TensorProto(name="w", dims=[4], data_type=FLOAT, data_location=1)
    external.external_data.add(key="location", value="weights.bin")
    write("external", model(initializers=[external]))
    write("short_strings", tensor(dims=[3], data_type=TensorProto.STRING, string_data=[b"a"]))
    write("declared_other", model(inputs=[info("x"), info("w", (2, 3))], ir=3, opset=7))
    # An element type of a newer ONNX is kept as bytes, but has to be declared as such.
    write("declared_known", model(inputs=[info("x"), info("w")], ir=3, opset=7, initializers=[
        TensorProto(name="w", dims=[2, 2], data_type=99, raw_data=raw)]))
    write("declared_int", model(inputs=[info("x"), info("w", dtype=TensorProto.INT32)], ir=3,
                                opset=7))


def sparse(values, indices, dims, dtype=TensorProto.INT64):
    return helper.make_sparse_tensor(
        helper.make_tensor("s", FLOAT, [len(values)], values),
        helper.make_tensor("", dtype, np.shape(indices), np.ravel(indices)), dims)


def sparse_model(*tensors):
    m = model()
    m.graph.sparse_initializer.extend(tensors)
    return m


def sparse_tensors():
    two = [1.5, -2.0]
    write("sparse_flat", sparse_model(sparse(two, [1, 5], [2, 3])))
    write("sparse_pairs", sparse_model(sparse(two, [[0, 1], [1, 2]], [2, 3])))
    write("sparse_int16", sparse_model(sparse(two, [1, 5], [2, 3], TensorProto.INT16)))


def broken_sparse_tensors():
    def one(*args):
        return sparse_model(sparse(*args))
    two = [1.5, -2.0]
    bare = sparse(two, [1, 5], [2, 3])
    bare.ClearField("indices")
    write("sparse_without_indices", sparse_model(bare))
    write("sparse_outside", one(two, [1, 6], [2, 3]))
    write("sparse_negative", one(two, [[0, 1], [1, -1]], [2, 3]))
    write("sparse_twice", one(two, [1, 1], [2, 3]))
    write("sparse_backwards", one(two, [5, 1], [2, 3]))
    write("sparse_short", one(two, [5], [2, 3]))
    write("sparse_coordinates", one(two, [[0, 1, 1], [1, 1, 1]], [2, 3]))
    write("sparse_float_indices", one(two, [1, 5], [2, 3], FLOAT))
    write("sparse_bomb", one(two, [1, 5], [2**24, 2]))
    again = sparse(two, [1, 5], [2**22, 2])
    again.values.name = "s2"
    write("sparse_bombs", sparse_model(sparse(two, [1, 5], [2**22, 3]), again))


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    valid()
    broken_encoding()
    broken_versions()
    broken_names()
    broken_attributes()
    broken_tensors()
    sparse_tensors()
    broken_sparse_tensors()
