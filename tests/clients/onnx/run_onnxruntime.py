"""What onnxruntime says about rows of raw numbers.

Usage: run_onnxruntime.py MODEL SHAPE TYPE INPUT OUTPUT
SHAPE is one row's, as 1,3,224,224; TYPE is the input's, float32 or int32; INPUT holds rows of that, little endian, OUTPUT
gets the first output of each row as float32.
"""

import sys

import numpy as np
import onnxruntime

model, shape, kind, source, target = sys.argv[1:]
shape = [int(size) for size in shape.split(",")]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
rows = np.fromfile(source, dtype=kind).reshape([-1, *shape])
out = np.stack([session.run(None, {name: row})[0].reshape(-1) for row in rows]).astype(np.float32)
out.tofile(target)
