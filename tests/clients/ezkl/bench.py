"""Measures ezkl on one model, each stage in a process of its own, and prints the figures as JSON.

usage: bench.py MODEL.onnx INPUT.json DIRECTORY        (a directory for keys and proofs: gigabytes for a large model)

Inputs and outputs are public and weights fixed, which is what our proofs state. The reference string comes from `gen_srs`,
which its authors meant for tests: it takes no network, and its provenance does not change any time but its own.
"""

import json
import os
import sys
import time
import traceback

import ezkl

model, data, directory = sys.argv[1:]
path = lambda name: os.path.join(directory, name)
settings, circuit, srs, vk, pk, witness, proof = map(
    path, ["settings.json", "model.compiled", "srs", "vk", "pk", "witness.json", "proof.json"]
)


def gen_settings():
    arguments = ezkl.PyRunArgs()
    arguments.input_visibility, arguments.output_visibility, arguments.param_visibility = "public", "public", "fixed"
    ezkl.gen_settings(model, settings, py_run_args=arguments)


def logrows():
    with open(settings) as file:
        return json.load(file)["run_args"]["logrows"]


STAGES = {
    "settings": gen_settings,
    "calibrate": lambda: ezkl.calibrate_settings(data, model, settings, "resources"),
    "compile": lambda: ezkl.compile_circuit(model, circuit, settings),
    "srs": lambda: ezkl.gen_srs(srs, logrows()),
    "setup": lambda: ezkl.setup(circuit, vk, pk, srs),
    "witness": lambda: ezkl.gen_witness(data, circuit, witness),
    "prove": lambda: ezkl.prove(witness, circuit, pk, proof, srs),
    "verify": lambda: ezkl.verify(proof, settings, vk, srs),
}

figures = {}
for name, stage in STAGES.items():
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        # What the stage says would be taken for figures.
        os.dup2(2, 1)
        failed = True
        try:
            failed = stage() is False
        except BaseException:
            traceback.print_exc()
        os._exit(failed)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        sys.exit(f"{name} failed ({status})")
    figures[name] = {
        "ms": (time.monotonic() - begun) * 1e3,
        "cpu_ms": (usage.ru_utime + usage.ru_stime) * 1e3,
        "rss_bytes": usage.ru_maxrss * 1024,
    }

with open(proof) as file:
    made = json.load(file)
instances = sum(len(column) for column in made["instances"])
figures["proof_bytes"] = len(made["proof"]) if isinstance(made["proof"], list) else len(made["proof"].removeprefix("0x")) // 2
figures["instance_bytes"] = 32 * instances
figures["logrows"] = logrows()
figures |= {f"{name}_bytes": os.path.getsize(file) for name, file in [("pk", pk), ("vk", vk), ("srs", srs)]}
print(json.dumps(figures))
