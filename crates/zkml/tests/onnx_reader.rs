//! The ONNX reader: what it makes of small models, and what it says of wrong and hostile ones.

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
    let mut files: Vec<_> = std::fs::read_dir(workspace_dir().join("tests/corpus/onnx"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // The rest of the corpus is for fuzzing only.
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
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
