"""Trains the tabular models and writes, for each, the held-out rows and what onnxruntime says about them.

Usage: tabular.py TRAINING_SCRIPT DIRECTORY
The script writes DIRECTORY/tabular/<name>.onnx; this adds DIRECTORY/tabular/<name>.npz with `x` and `out`.
"""

import os
import runpy
import sys

import numpy as np
import onnxruntime
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

DATA = {
    "cancer_logreg": load_breast_cancer,
    "cancer_mlp": load_breast_cancer,
    "digits_mlp": load_digits,
    "diabetes_mlp": load_diabetes,
}

script = os.path.abspath(sys.argv[1])
os.chdir(sys.argv[2])
runpy.run_path(script)
for name, load in DATA.items():
    data = load()
    _, rows, _, _ = train_test_split(data.data.astype(np.float64), data.target, test_size=0.25, random_state=0)
    rows = rows.astype(np.float32)
    session = onnxruntime.InferenceSession(f"tabular/{name}.onnx", providers=["CPUExecutionProvider"])
    # One by one: larger batches may be summed in another order.
    out = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows]).astype(np.float32)
    np.savez(f"tabular/{name}.npz", x=rows, out=out)
