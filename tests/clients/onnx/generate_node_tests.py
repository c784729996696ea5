"""Writes the node tests of the `onnx` package as files: DIRECTORY/<test>/{model.onnx,input_<i>.pb,output_<i>.pb}, and
DIRECTORY/tests.tsv, which says which operators each test uses.

Usage: generate_node_tests.py DIRECTORY
Only tests whose inputs and outputs are all tensors are written. The package's own generator is not used: it rewrites its
installation, and takes every kind of test.
"""

import os
import sys

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_node_model_tests


def tensor(value, name):
    if isinstance(value, TensorProto):
        return value
    if not isinstance(value, (np.ndarray, np.generic)):
        return None
    return numpy_helper.from_array(np.asarray(value), name)


def main():
    directory = sys.argv[1]
    index = []
    for case in load_node_model_tests():
        if case.model is None or not case.data_sets:
            continue
        inputs, outputs = case.data_sets[0]
        graph = case.model.graph
        files = {"model.onnx": case.model}
        for i, value in enumerate(inputs):
            files[f"input_{i}.pb"] = tensor(value, graph.input[i].name)
        for i, value in enumerate(outputs):
            files[f"output_{i}.pb"] = tensor(value, graph.output[i].name)
        if any(message is None for message in files.values()):
            continue
        folder = os.path.join(directory, case.name)
        os.makedirs(folder)
        for name, message in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(message.SerializeToString(deterministic=True))
        operators = sorted({f"{node.domain}.{node.op_type}".removeprefix(".") for node in graph.node})
        index.append(f"{case.name}\t{','.join(operators)}\n")
    with open(os.path.join(directory, "tests.tsv"), "w") as file:
        file.writelines(sorted(index))
    print(len(index))


main()
