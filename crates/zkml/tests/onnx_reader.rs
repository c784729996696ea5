//! The ONNX reader on hostile files: what it says, and that it never panics.
//!
//! `OG_FUZZ=long` mutates for 10 minutes instead of seconds; `OG_FUZZ_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use og_testkit::clients::workspace_dir;
use og_zkml::onnx::{self, Kind, OnnxError, Options, Reason};
use og_zkml::reference::{self, Value};

fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(workspace_dir().join("tests/vectors/zkml/onnx"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn options() -> Options {
    let mut options = Options::default();
    options.dims.extend([("n".to_owned(), 2), ("b".to_owned(), 1)]);
    options
}

/// A file with its open dimensions bound; bindings that fit nothing are left out.
fn read(bytes: &[u8]) -> Result<onnx::Graph, OnnxError> {
    let mut options = options();
    loop {
        match onnx::read(bytes, &options) {
            Err(OnnxError::Binding(name)) if options.dims.remove(&name).is_some() => {}
            result => return result,
        }
    }
}

/// Executes a graph that is small enough, on inputs of ones.
fn execute(graph: &onnx::Graph) {
    let total = graph.tensors.iter().try_fold(0usize, |sum, tensor| sum.checked_add(tensor.len()));
    if total.is_none_or(|total| total > 1 << 16) || graph.weights() > 1 << 16 {
        return;
    }
    let inputs: Vec<Value> = graph
        .inputs
        .iter()
        .map(|&id| {
            let tensor = &graph.tensors[id];
            match tensor.kind {
                Kind::Float => Value::floats(&tensor.shape, vec![1.0; tensor.len()]),
                kind => Value { kind, ..Value::ints(&tensor.shape, vec![1; tensor.len()]) },
            }
        })
        .collect();
    // An error is an answer too; a panic is not.
    if let Ok(outputs) = reference::outputs(graph, &inputs) {
        assert_eq!(outputs.len(), graph.outputs.len());
    }
}

#[test]
fn the_corpus_is_read_and_executed() {
    let corpus = corpus();
    assert_eq!(corpus.len(), 8);
    for (name, bytes) in &corpus {
        let graph = read(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!graph.nodes.is_empty(), "{name}");
        assert!(
            graph
                .nodes
                .iter()
                .all(|node| node.inputs.iter().any(|&id| graph.tensors[id].constant.is_none())),
            "{name}"
        );
        let inputs: Vec<Value> = graph
            .inputs
            .iter()
            .map(|&id| &graph.tensors[id])
            .map(|t| match t.kind {
                Kind::Float => Value::floats(&t.shape, vec![0.5; t.len()]),
                _ => Value::ints(&t.shape, vec![1; t.len()]),
            })
            .collect();
        let outputs =
            reference::outputs(&graph, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outputs.len(), graph.outputs.len(), "{name}");
    }
}

#[test]
fn layers_are_fused_and_shapes_folded() {
    let files: std::collections::BTreeMap<_, _> = corpus().into_iter().collect();
    let ops = |name: &str| -> Vec<String> {
        let graph = read(&files[name]).unwrap();
        graph
            .nodes
            .iter()
            .map(|node| format!("{:?}", node.op).split([' ', '(', '{']).next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ops("mlp"), ["Dense", "Clip", "Dense", "Softmax"]);
    assert_eq!(ops("cnn"), ["Conv", "Unary", "Pool", "Pool", "Reduce", "Reshape"]);
    // Nothing of the arithmetic on shapes is left.
    assert!(ops("shapes").iter().all(|op| {
        ["Reshape", "Transpose", "Slice", "Concat", "Pad", "Expand"].contains(&op.as_str())
    }));
}

/// A protobuf message under construction.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
        self
    }

    fn int(self, field: u64, value: i64) -> Self {
        self.varint(field << 3).varint(value as u64)
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        let mut out = self.varint(field << 3 | 2).varint(value.len() as u64);
        out.0.extend(value);
        out
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

fn port(name: &str, dims: &[i64]) -> Message {
    let shape = dims
        .iter()
        .fold(Message::default(), |shape, &dim| shape.message(1, &Message::default().int(1, dim)));
    let tensor = Message::default().int(1, 1).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = dims.iter().fold(Message::default(), |tensor, &dim| tensor.int(1, dim));
    tensor.int(2, 1).text(8, name).bytes(9, &raw)
}

fn long_tensor(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Message::default().int(1, values.len() as i64).int(2, 7).text(8, name).bytes(9, &raw)
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    node.text(2, output).text(3, "the-node").text(4, operator)
}

fn model(opset: i64, graph: &Message) -> Vec<u8> {
    let opset = Message::default().text(1, "").int(2, opset);
    Message::default().int(1, 8).message(7, graph).message(8, &opset).0
}

/// One node on `x`, an input of this shape, with these constants.
fn single(operator: &str, inputs: &[&str], dims: &[i64], constants: &[Message]) -> Vec<u8> {
    let graph = Message::default().message(1, &node(operator, inputs, "y")).text(2, "g");
    let graph = constants.iter().fold(graph, |graph, constant| graph.message(5, constant));
    model(17, &graph.message(11, &port("x", dims)).message(12, &port("y", &[])))
}

fn refused(bytes: &[u8]) -> String {
    onnx::read(bytes, &Options::default()).unwrap_err().to_string()
}

#[test]
fn errors_name_the_node_and_the_reason() {
    assert_eq!(
        refused(&single("Frobnicate", &["x"], &[1], &[])),
        "node `the-node` (Frobnicate): the operator is not supported"
    );
    assert_eq!(
        refused(&single("Add", &["x", "c"], &[2, 3], &[tensor("c", &[4], &[0.0; 4])])),
        "node `the-node` (Add): shapes [2, 3] and [4] do not broadcast"
    );
    assert_eq!(
        refused(&single("Add", &["x", "missing"], &[2], &[])),
        "node `the-node` (Add): input `missing` is made by no earlier node"
    );
    assert_eq!(
        refused(&single("Add", &["x"], &[2], &[])),
        "node `the-node` (Add): input 1 is missing"
    );
    assert_eq!(
        refused(&single("MatMul", &["x", "w"], &[1, 3], &[tensor("w", &[2, 1], &[1.0, 2.0])])),
        "node `the-node` (MatMul): the weights take 2 inputs, the tensor's shape is [1, 3]"
    );
    assert_eq!(
        refused(&single("MatMul", &["x", "w"], &[1, 2], &[tensor("w", &[2, 1], &[1.0, f32::NAN])])),
        "node `the-node` (Gemm): a constant is NaN or infinite"
    );
    assert_eq!(
        refused(&single("Mul", &["x", "c"], &[2], &[tensor("c", &[1], &[f32::INFINITY])])),
        "tensor `c` holds NaN or an infinity"
    );
    assert_eq!(
        refused(&single("Reshape", &["x", "s"], &[6], &[long_tensor("s", &[4, -1])])),
        "node `the-node` (Reshape): cannot reshape [6] to [4, -1]"
    );
    assert_eq!(
        refused(&single("Reshape", &["x", "x"], &[6], &[])),
        "node `the-node` (Reshape): input `x` must be constant"
    );
    assert_eq!(
        refused(&single("Relu", &["x"], &[-1], &[])),
        "dimension 0 of input `x` (unnamed) has no size: bind `x.0`"
    );
    assert_eq!(refused(&single("Relu", &["x"], &[0], &[])), "input `x`: it has no elements");
    let external = Message::default().int(1, 1).int(2, 1).text(8, "w").int(14, 1);
    assert_eq!(
        refused(&single("Mul", &["x", "w"], &[1], &[external])),
        "tensor `w`: its elements lie in another file (external data)"
    );
    let short = tensor("w", &[3], &[1.0]);
    assert_eq!(
        refused(&single("Mul", &["x", "w"], &[1], &[short])),
        "tensor `w`: its shape has 3 elements, it holds 1"
    );
    assert_eq!(
        refused(&model(3, &Message::default())),
        "operator set version 3 is not supported (7 to 28 are)"
    );
    assert_eq!(refused(b""), "not an ONNX file: it holds no graph");
    assert_eq!(refused(b"\x3a\x7f"), "not an ONNX file: a field is cut short");
    let small = Options { max_bytes: 10, ..Options::default() };
    assert!(matches!(
        onnx::read(&[0; 11], &small),
        Err(OnnxError::TooLarge { found: 11, allowed: 10 })
    ));
    let mut bound = Options::default();
    bound.dims.insert("batch".into(), 1);
    let error = onnx::read(&single("Relu", &["x"], &[1], &[]), &bound).unwrap_err();
    assert_eq!(error.to_string(), "the binding of `batch` fits no input dimension of the model");
}

#[test]
fn unknown_attributes_are_not_overlooked() {
    let attribute = Message::default().text(1, "surprise").int(3, 1).int(20, 2);
    let relu = node("Relu", &["x"], "y").message(5, &attribute);
    let graph = Message::default()
        .message(1, &relu)
        .message(11, &port("x", &[1]))
        .message(12, &port("y", &[]));
    assert_eq!(
        refused(&model(17, &graph)),
        "node `the-node` (Relu): attribute `surprise` is not supported"
    );
}

#[test]
fn small_files_cannot_ask_for_much() {
    let started = Instant::now();
    let too_much = |bytes: &[u8]| {
        let error = onnx::read(bytes, &Options::default()).unwrap_err();
        assert!(
            matches!(
                error,
                OnnxError::Node { reason: Reason::TooMuch(_) | Reason::Shape(_), .. }
                    | OnnxError::Tensor { .. }
            ),
            "{error}"
        );
    };
    let huge = 1 << 27;
    // A constant of 2^27 numbers made of two.
    too_much(&single("ConstantOfShape", &["s"], &[1], &[long_tensor("s", &[huge])]));
    too_much(&single("Expand", &["x", "s"], &[1], &[long_tensor("s", &[huge, huge, huge])]));
    too_much(&single("Tile", &["x", "s"], &[1], &[long_tensor("s", &[i64::MAX])]));
    too_much(&single(
        "Range",
        &["s", "e", "d"],
        &[1],
        &["s", "e", "d"].map(|name| {
            let value = if name == "e" { i64::MAX } else { 1 };
            Message::default().int(2, 7).text(8, name).bytes(9, &value.to_le_bytes())
        }),
    ));
    too_much(&single("Mul", &["x", "w"], &[1], &[tensor("w", &[i64::MAX, 2], &[])]));
    // A live tensor may be large: nothing is allocated for it.
    onnx::read(
        &single("Expand", &["x", "s"], &[1], &[long_tensor("s", &[huge])]),
        &Options::default(),
    )
    .unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// A message taken apart: fields in order, nested where that is possible.
#[derive(Clone)]
enum Part {
    Varint(u64),
    Fixed(u8, Vec<u8>),
    Bytes(Vec<u8>),
    Nested(Vec<(u64, Self)>),
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<(u64, Part)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let part = match tag & 7 {
            0 => Part::Varint(take_varint(&mut bytes)?),
            1 | 5 => {
                let (fixed, rest) = bytes.split_at_checked(if tag & 7 == 1 { 8 } else { 4 })?;
                bytes = rest;
                Part::Fixed((tag & 7) as u8, fixed.to_vec())
            }
            2 => {
                let len = take_varint(&mut bytes)?;
                let (inner, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
                bytes = rest;
                match parse(inner, depth.checked_sub(1)?) {
                    Some(fields) if !fields.is_empty() => Part::Nested(fields),
                    _ => Part::Bytes(inner.to_vec()),
                }
            }
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        fields.push((tag >> 3, part));
    }
    Some(fields)
}

fn write(fields: &[(u64, Part)]) -> Vec<u8> {
    fields
        .iter()
        .fold(Message::default(), |out, (number, part)| match part {
            Part::Varint(value) => out.varint(number << 3).varint(*value),
            Part::Fixed(kind, bytes) => {
                let mut out = out.varint(number << 3 | u64::from(*kind));
                out.0.extend(bytes);
                out
            }
            Part::Bytes(bytes) => out.bytes(*number, bytes),
            Part::Nested(fields) => out.bytes(*number, &write(fields)),
        })
        .0
}

/// Pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }
}

const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    8,
    255,
    65_535,
    1 << 20,
    1 << 28,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
    u64::MAX - 1,
];
const NAMES: [&str; 24] = [
    "Conv",
    "Gemm",
    "MatMul",
    "Slice",
    "Pad",
    "Reshape",
    "Gather",
    "Split",
    "MaxPool",
    "AveragePool",
    "Tile",
    "Expand",
    "ReduceSum",
    "ConstantOfShape",
    "Range",
    "GatherND",
    "GatherElements",
    "Trilu",
    "OneHot",
    "DepthToSpace",
    "Softmax",
    "Unsqueeze",
    "x",
    "axis",
];

/// Changes one place of a message tree.
fn mutate(fields: &mut Vec<(u64, Part)>, random: &mut Random) {
    if fields.is_empty() {
        return;
    }
    let at = random.below(fields.len());
    match random.below(10) {
        0 => {
            let copy = fields[at].clone();
            fields.insert(random.below(fields.len() + 1), copy);
        }
        1 if random.below(3) == 0 => {
            fields.remove(at);
        }
        2 => {
            let other = random.below(fields.len());
            fields.swap(at, other);
        }
        3 if random.below(4) == 0 => fields[at].0 = 1 + random.below(32) as u64,
        _ => match &mut fields[at].1 {
            Part::Varint(value) => {
                *value = match random.below(4) {
                    0 => NUMBERS[random.below(NUMBERS.len())],
                    1 => value.wrapping_add(1),
                    2 => value.wrapping_sub(1),
                    _ => random.next() >> random.below(64),
                }
            }
            Part::Fixed(_, bytes) => bytes.fill(random.next().to_le_bytes()[0]),
            Part::Bytes(bytes) => match random.below(5) {
                0 => *bytes = NAMES[random.below(NAMES.len())].as_bytes().to_vec(),
                1 => bytes.truncate(random.below(bytes.len() + 1)),
                2 => bytes.extend_from_slice(&NUMBERS[random.below(NUMBERS.len())].to_le_bytes()),
                3 if bytes.len() >= 8 => {
                    let place = random.below(bytes.len() / 8) * 8;
                    bytes[place..place + 8]
                        .copy_from_slice(&NUMBERS[random.below(NUMBERS.len())].to_le_bytes());
                }
                _ if !bytes.is_empty() => {
                    let place = random.below(bytes.len());
                    bytes[place] ^= 1 << random.below(8);
                }
                _ => bytes.push(0),
            },
            Part::Nested(inner) => mutate(inner, random),
        },
    }
}

#[test]
fn mutated_models_never_panic() {
    let seed: u64 = std::env::var("OG_FUZZ_SEED").map_or(0x0a11_0e55, |seed| seed.parse().unwrap());
    let long = std::env::var("OG_FUZZ").is_ok_and(|profile| profile == "long");
    let budget = Duration::from_secs(if long { 600 } else { 4 });
    let corpus: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let trees: Vec<_> = corpus.iter().map(|bytes| parse(bytes, 12).unwrap()).collect();
    for (tree, bytes) in trees.iter().zip(&corpus) {
        assert_eq!(&write(tree), bytes, "a file is taken apart and put together again");
    }
    let started = Instant::now();
    let (mut run, mut accepted, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while started.elapsed() < budget {
        let mut random = Random(seed.wrapping_add(run).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let which = random.below(corpus.len());
        let bytes = if random.below(5) == 0 {
            let mut bytes = corpus[which].clone();
            for _ in 0..=random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] = random.next().to_le_bytes()[0];
            }
            bytes.truncate(bytes.len() - random.below(3) * random.below(bytes.len() / 2));
            bytes
        } else {
            let mut tree = trees[which].clone();
            for _ in 0..=random.below(4) {
                mutate(&mut tree, &mut random);
            }
            write(&tree)
        };
        let begun = Instant::now();
        let outcome = std::panic::catch_unwind(|| {
            let graph = read(&bytes).ok()?;
            execute(&graph);
            Some(())
        });
        slowest = slowest.max(begun.elapsed());
        match outcome {
            Ok(read) => accepted += u64::from(read.is_some()),
            Err(_) => panic!("OG_FUZZ_SEED={}: a mutated model panics", seed.wrapping_add(run)),
        }
        run += 1;
    }
    println!("{run} mutated models, {accepted} accepted, slowest {slowest:.0?}");
    assert!(accepted > 0 && accepted < run);
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
