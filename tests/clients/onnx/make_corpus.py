"""Writes the small models of tests/corpus/onnx: what the mutator of the ONNX reader starts from.

Usage: make_corpus.py DIRECTORY
Together they use every family of operators that is read. Deterministic.
"""

import os
import sys

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h, numpy_helper as nh

rng = np.random.default_rng(1)


def weights(*shape):
    return (rng.integers(-8, 8, shape) / 8).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


def save(name, nodes, inputs, outputs, constants, opset=17):
    value = lambda pair: h.make_tensor_value_info(pair[0], pair[2] if len(pair) > 2 else T.FLOAT, pair[1])
    graph = h.make_graph(nodes, name, [value(p) for p in inputs], [value(p) for p in outputs], [nh.from_array(v, k) for k, v in constants.items()])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8, producer_name="")
    with open(os.path.join(sys.argv[1], f"{name}.onnx"), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


n = h.make_node
save("mlp", [n("Gemm", ["x", "w", "b"], ["a"], transB=1, alpha=0.5), n("Relu", ["a"], ["r"]), n("MatMul", ["r", "v"], ["m"]), n("Add", ["m", "c"], ["s"]), n("Softmax", ["s"], ["y"], axis=1)],
     [("x", ["n", 4])], [("y", ["n", 3])], {"w": weights(5, 4), "b": weights(5), "v": weights(5, 3), "c": weights(3)})
save("cnn", [n("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), n("BatchNormalization", ["a", "g", "b", "m", "v"], ["c"]), n("HardSwish", ["c"], ["d"]),
             n("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[1, 1], ceil_mode=1), n("AveragePool", ["e"], ["f"], kernel_shape=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1),
             n("GlobalAveragePool", ["f"], ["g1"]), n("Flatten", ["g1"], ["y"])],
     [("x", [1, 2, 7, 7])], [("y", [1, 4])], {"w": weights(4, 2, 3, 3), "g": weights(4), "b": weights(4), "m": weights(4), "v": np.abs(weights(4)) + 1})
save("shapes", [n("Shape", ["x"], ["s"]), n("Gather", ["s", "zero"], ["n0"]), n("Squeeze", ["n0"], ["n2"]), n("Unsqueeze", ["n2", "zero"], ["n1"]), n("Concat", ["n1", "rest"], ["t"], axis=0), n("Reshape", ["x", "t"], ["r"]),
                n("Transpose", ["r"], ["q"], perm=[0, 2, 1]), n("Slice", ["q", "start", "end", "axes", "steps"], ["u"]), n("Split", ["u"], ["v", "w"], axis=2), n("Concat", ["w", "v"], ["z"], axis=2),
                n("Pad", ["z", "pads"], ["p"]), n("Tile", ["p", "reps"], ["y"])],
     [("x", [1, 12])], [("y", None)], {"zero": ints(0), "rest": ints(3, 4), "start": ints(-1), "end": ints(-10), "axes": ints(1), "steps": ints(-1), "pads": ints(0, 1, 0, 0, 0, 1), "reps": ints(1, 2, 1)}, 13)
save("functions", [n(f, [f"x" if i == 0 else f"t{i - 1}"], [f"t{i}"]) for i, f in enumerate(["Sigmoid", "Tanh", "Exp", "Erf", "Abs", "Sqrt", "Neg", "LeakyRelu", "Softplus", "Elu"])] +
     [n("Clip", ["t9", "lo", "hi"], ["c"]), n("PRelu", ["c", "slope"], ["p"]), n("Max", ["p", "lo", "x"], ["y"])],
     [("x", [2, 3])], [("y", [2, 3])], {"lo": np.float32(-1.5), "hi": np.float32(6), "slope": weights(3)})
save("reductions", [n("ReduceSum", ["x", "axes"], ["a"], keepdims=0), n("ReduceMean", ["x"], ["b"], axes=[2], keepdims=1), n("ReduceMax", ["x"], ["c"], axes=[-1]), n("ReduceL2", ["x"], ["d"], axes=[0]),
                    n("ReduceLogSumExp", ["x"], ["e"]), n("ArgMax", ["x"], ["f"], axis=1), n("Cast", ["f"], ["g"], to=1), n("Sub", ["b", "c"], ["h"]), n("Mul", ["h", "d"], ["i"]), n("Add", ["i", "e"], ["j"]), n("Div", ["j", "g"], ["y"])],
     [("x", [2, 3, 4])], [("y", None), ("a", None)], {"axes": ints(1)}, 13)
save("norms", [n("LayerNormalization", ["x", "s", "b"], ["a"], axis=-1), n("InstanceNormalization", ["a", "g", "h"], ["c"]), n("Pow", ["c", "two"], ["d"]), n("Where", ["mask", "d", "x"], ["e"]),
               n("Trilu", ["e"], ["f"]), n("DepthToSpace", ["x4"], ["i"], blocksize=2), n("ReduceMean", ["i"], ["j"], keepdims=0), n("Add", ["f", "j"], ["y"])],
     [("x", [1, 3, 4]), ("x4", [1, 4, 2, 2])], [("y", None)], {"s": weights(4), "b": weights(4), "g": weights(3), "h": weights(3), "two": np.float32(2), "mask": np.array([[True], [False], [True]])})
save("lookups", [n("Gather", ["table", "ids"], ["e"]), n("OneHot", ["ids", "depth", "values"], ["o"]), n("MatMul", ["o", "w"], ["m"]), n("Equal", ["ids", "three"], ["q"]), n("Not", ["q"], ["k"]), n("Cast", ["k"], ["l"], to=1),
                 n("Unsqueeze", ["l", "last"], ["u"]), n("Mul", ["m", "u"], ["v"]), n("Add", ["e", "v"], ["z"]), n("ConstantOfShape", ["shape"], ["cs"], value=nh.from_array(np.array([2], np.float32))), n("Mul", ["z", "cs"], ["y"])],
     [("ids", [1, 4], T.INT32)], [("y", None)], {"table": weights(6, 2), "depth": ints(6), "values": np.array([0, 1], np.float32), "w": weights(6, 2), "three": np.array(3, np.int32), "last": ints(-1), "shape": ints(2)})
save("attention", [n("MatMul", ["x", "wq"], ["q"]), n("MatMul", ["x", "wk"], ["k"]), n("MatMul", ["x", "wv"], ["v"]), n("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), n("MatMul", ["q", "kt"], ["s"]), n("Softmax", ["s"], ["p"]), n("MatMul", ["p", "v"], ["y"])],
     [("x", ["b", 3, 4])], [("y", None)], {"wq": weights(4, 4), "wk": weights(4, 4), "wv": weights(4, 4)})
