//! What the tests on real models share: NumPy files, models of the workspace, integers for floats.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part")]

pub(crate) mod models;

use std::io::{Cursor, Read as _};

use og_zkml::certificate::Comparison;
use og_zkml::compile::{dequantise, quantise};
use og_zkml::execute::execute_traced;
use og_zkml::model::Model;
use og_zkml::onnx::{Data, Graph};
use og_zkml::qir::{Program, Tensor};
use og_zkml::reference::Value;

/// An array of a `.npz` file: shape and elements.
pub(crate) fn npz(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut npy = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut npy).unwrap();
    assert_eq!(&npy[..6], b"\x93NUMPY");
    let header_len = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..10 + header_len]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(|d| d.parse().unwrap())
        .collect();
    let body = &npy[10 + header_len..];
    let values: Vec<f32> = if header.contains("'<f4'") {
        body.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    } else if header.contains("'<i8'") {
        body.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f32).collect()
    } else {
        panic!("{header}")
    };
    assert_eq!(values.len(), shape.iter().product::<usize>());
    (shape, values)
}

/// The elements as floats, whatever they are.
pub(crate) fn floats(value: &Value) -> Vec<f64> {
    match &value.data {
        Data::Float(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Data::Int(values) => values.iter().map(|&v| v as f64).collect(),
    }
}

/// The integers that the program takes for float inputs.
pub(crate) fn integers(program: &Program, inputs: &[Value]) -> Result<Vec<Tensor>, String> {
    let quantise = |(port, value)| quantise(port, &floats(value)).map_err(|e| e.to_string());
    program.inputs().iter().zip(inputs).map(quantise).collect()
}

/// What the integer program makes of float inputs: each output's numbers, and how many elements of requantised tensors lie on their limit.
pub(crate) fn run_integers(
    model: &Model,
    inputs: &[Value],
) -> Result<(Vec<Vec<f64>>, u64), String> {
    let program = model.program();
    let integers = integers(program, inputs)?;
    let mut weights = model.weights();
    let outcome =
        execute_traced(program, &integers, &mut weights).map_err(|error| error.to_string())?;
    let saturated = og_zkml::certificate::saturations(program, &outcome.tensors);
    let outputs = program
        .outputs()
        .iter()
        .zip(&outcome.outputs)
        .map(|(output, tensor)| dequantise(&program.tensors()[output.tensor], &tensor.values))
        .collect();
    Ok((outputs, saturated))
}

/// Compares the program with an oracle's outputs, row by row (first output only).
pub(crate) fn compare(model: &Model, rows: &[Vec<Value>], oracle: &[Vec<f64>]) -> Comparison {
    assert_eq!(rows.len(), oracle.len());
    let mut comparison = Comparison::default();
    for (inputs, expected) in rows.iter().zip(oracle) {
        let (outputs, saturated) = run_integers(model, inputs).unwrap();
        comparison.add(expected, &outputs[0], saturated).unwrap();
    }
    comparison
}

/// The largest difference.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A value for the graph's only input.
pub(crate) fn only_input(graph: &Graph, values: &[f32]) -> Value {
    let [input] = graph.inputs.as_slice() else { panic!("one input") };
    Value::floats(&graph.tensors[*input].shape, values)
}

/// Pseudo-random numbers (xorshift64*), for inputs.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `0..1`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}
