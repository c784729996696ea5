//! The node tests of the ONNX standard: read, executed in floats, compiled, executed in integers.
//!
//! * Floats must agree within `1e-4 + 1e-3·|expected|`, integers and truth values exactly.
//! * The program is calibrated on the test's own input, as the specification's tests are single examples, and must agree
//!   within one thousandth of the largest expected magnitude (of 1, when that is less); integers and truth values exactly.
//! * `tests/vectors/zkml/onnx_nodes.skip` lists what does not pass. A listed test that passes fails the run, as does an
//!   unlisted one that does not. `docs/operators.md` is made from what passes.
//!
//! The smallest tests of single operators that can be read are what the reader is fuzzed with, besides our own models:
//! `tests/corpus/onnx/*.node` (from the package `onnx`, Apache-2.0).
//!
//! `OG_REWRITE=1` writes all of these anew.

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

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use og_testkit::clients::{PythonClient, client_dir, run, target_dir, workspace_dir};
use og_testkit::fuzz;
use og_zkml::compile::{Calibration, Precision, compile};
use og_zkml::onnx::{self, Kind, OnnxError, Options, Reason};
use og_zkml::reference::{self, Value};
use support::{floats, run_integers};

/// The folder with the generated tests; made once per version of the generator.
fn node_tests() -> anyhow::Result<PathBuf> {
    let client = PythonClient::ensure("onnx")?;
    let mut hash = std::hash::DefaultHasher::new();
    for file in ["generate_node_tests.py", "requirements.lock"] {
        std::hash::Hash::hash(&std::fs::read(client_dir("onnx").join(file))?, &mut hash);
    }
    let folder = target_dir().join(format!("onnx-nodes-{:016x}", std::hash::Hasher::finish(&hash)));
    if !folder.exists() {
        let part = folder.with_extension(format!("{}", std::process::id()));
        std::fs::create_dir_all(&part)?;
        run(client.script("generate_node_tests.py").arg(&part))?;
        if std::fs::rename(&part, &folder).is_err() {
            std::fs::remove_dir_all(&part)?;
        }
    }
    Ok(folder)
}

/// One test: its model, inputs and expected outputs.
struct Case {
    model: Vec<u8>,
    inputs: Vec<(String, Value)>,
    outputs: Vec<Value>,
}

impl Case {
    fn open(folder: &Path) -> Result<Self, String> {
        let tensors = |what: &str| -> Result<Vec<(String, Value)>, String> {
            (0..)
                .map(|at| folder.join(format!("{what}_{at}.pb")))
                .take_while(|path| path.exists())
                .map(|path| {
                    onnx::read_tensor(&std::fs::read(path).unwrap())
                        .map_err(|e| format!("test data: {e}"))
                })
                .collect()
        };
        let model = std::fs::read(folder.join("model.onnx")).unwrap();
        let outputs = tensors("output")?.into_iter().map(|(_, value)| value).collect();
        Ok(Self { model, inputs: tensors("input")?, outputs })
    }

    /// The graph with these inputs fixed, and the others' values.
    fn graph(
        &self,
        fixed: impl Fn(usize, &Value) -> bool,
    ) -> Result<(onnx::Graph, Vec<Value>), OnnxError> {
        let mut options = Options::default();
        let mut live = Vec::new();
        for (at, (name, value)) in self.inputs.iter().enumerate() {
            if fixed(at, value) {
                options.constants.insert(name.clone(), value.clone());
            } else {
                live.push((name, value.clone()));
            }
        }
        let graph = onnx::read(&self.model, &options)?;
        Ok((graph, live.into_iter().map(|(_, value)| value).collect()))
    }

    /// All inputs live; when an operator needs constants, all but the first fixed; then all but the floats; then all.
    fn graphs(&self) -> [Result<(onnx::Graph, Vec<Value>), OnnxError>; 4] {
        [
            self.graph(|_, _| false),
            self.graph(|at, _| at > 0),
            self.graph(|_, value| value.kind == Kind::Int),
            self.graph(|_, _| true),
        ]
    }

    fn float(&self) -> Result<(), Failure> {
        let mut first = None;
        for attempt in self.graphs() {
            let outcome = attempt.map_err(Failure::Read).and_then(|(graph, inputs)| {
                let outputs = reference::outputs(&graph, &inputs).map_err(Failure::other)?;
                if outputs.len() != self.outputs.len() {
                    return Err(Failure::other("another number of outputs"));
                }
                for (got, expected) in outputs.iter().zip(&self.outputs) {
                    check(expected, got.kind, &got.shape, &floats(got), |e| 1e-4 + 1e-3 * e.abs())?;
                }
                Ok(())
            });
            match outcome {
                Ok(()) => return Ok(()),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap())
    }

    fn integer(&self) -> Result<(), Failure> {
        let mut first = None;
        for attempt in self.graphs() {
            let outcome = attempt.map_err(Failure::Read).and_then(|(graph, inputs)| {
                let calibration = [inputs];
                let model = compile(&graph, Precision::W16A16, Calibration::Inputs(&calibration))
                    .map_err(Failure::other)?;
                let (outputs, _) = run_integers(&model, &calibration[0]).map_err(Failure::other)?;
                let program = model.program();
                for ((got, output), expected) in
                    outputs.iter().zip(program.outputs()).zip(&self.outputs)
                {
                    let largest = floats(expected).iter().fold(1f64, |max, v| max.max(v.abs()));
                    let shape: Vec<usize> = program.tensors()[output.tensor]
                        .shape
                        .iter()
                        .map(|&dim| dim as usize)
                        .collect();
                    check(expected, expected.kind, &shape, got, |_| largest / 1000.0)?;
                }
                Ok(())
            });
            match outcome {
                Ok(()) => return Ok(()),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap())
    }
}

enum Failure {
    Read(OnnxError),
    Other(String),
}

impl Failure {
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    fn other(error: impl ToString) -> Self {
        Self::Other(error.to_string())
    }

    /// The operator that we do not have at all.
    fn operator(&self) -> Option<&str> {
        match self {
            Self::Read(OnnxError::Node { operator, reason: Reason::Operator, .. }) => {
                Some(operator)
            }
            _ => None,
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Read(error) => error.to_string(),
            Self::Other(text) => text.clone(),
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(140).collect()
    }
}

fn check(
    expected: &Value,
    kind: Kind,
    shape: &[usize],
    got: &[f64],
    tolerance: impl Fn(f64) -> f64,
) -> Result<(), Failure> {
    if kind != expected.kind || shape != expected.shape {
        let (have, want) = ((kind, shape), (expected.kind, &expected.shape));
        return Err(Failure::Other(format!("the output is {have:?}, not {want:?}")));
    }
    for (at, (&got, &want)) in got.iter().zip(&floats(expected)).enumerate() {
        let near = match kind {
            Kind::Float => (got - want).abs() <= tolerance(want),
            Kind::Int | Kind::Bool => got == want,
        };
        if !(near || got == want || (got.is_nan() && want.is_nan())) {
            return Err(Failure::Other(format!("element {at} differs")));
        }
    }
    Ok(())
}

/// Counts of tests: all, passing in floats, passing in integers.
type Counts = [usize; 3];

#[test]
fn the_node_tests_that_are_not_skipped_pass() {
    let folder = match node_tests() {
        Ok(folder) => folder,
        Err(error) => {
            println!(
                "SKIPPED onnx node tests: {:#}",
                error.to_string().lines().next().unwrap_or_default()
            );
            return;
        }
    };
    let index = std::fs::read_to_string(folder.join("tests.tsv")).unwrap();
    let mut skips: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut by_operator: BTreeMap<String, Counts> = BTreeMap::new();
    let mut totals: Counts = [0; 3];
    let mut smallest: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in index.lines() {
        let (name, operators) = line.split_once('\t').unwrap();
        let (float, integer) = match Case::open(&folder.join(name)) {
            Ok(case) => {
                if !operators.contains(',') && onnx::read(&case.model, &Options::default()).is_ok()
                {
                    let known = smallest.entry(format!("{operators}.node")).or_default();
                    if known.is_empty() || case.model.len() < known.len() {
                        known.clone_from(&case.model);
                    }
                }
                let float = case.float();
                let integer = if float.is_ok() { case.integer() } else { Ok(()) };
                (float, integer)
            }
            Err(error) => (Err(Failure::Other(error)), Ok(())),
        };
        let passed = [true, float.is_ok(), float.is_ok() && integer.is_ok()];
        let single =
            (!operators.contains(',')).then(|| by_operator.entry(operators.into()).or_default());
        for counts in single.into_iter().chain([&mut totals]) {
            counts.iter_mut().zip(passed).for_each(|(count, passed)| *count += usize::from(passed));
        }
        if let Err(failure) = float {
            match failure.operator() {
                Some(operator) => {
                    skips.insert(("operator".into(), operator.into()), "not supported".into())
                }
                None => skips.insert(("float".into(), name.into()), failure.text()),
            };
        } else if let Err(failure) = integer {
            skips.insert(("integer".into(), name.into()), failure.text());
        }
    }
    println!(
        "ONNX node tests: {} in all, {} pass in floats, {} in integers",
        totals[0], totals[1], totals[2]
    );
    fuzz::generated("onnx", &smallest.into_iter().collect::<Vec<_>>()).unwrap();
    let list: String = skips
        .iter()
        .map(|((stage, name), reason)| format!("{stage}\t{name}\t{reason}\n"))
        .collect();
    let skip_file = workspace_dir().join("tests/vectors/zkml/onnx_nodes.skip");
    let table_file = workspace_dir().join("docs/operators.md");
    let table = table(&by_operator, totals);
    if std::env::var_os("OG_REWRITE").is_some() {
        std::fs::create_dir_all(skip_file.parent().unwrap()).unwrap();
        std::fs::write(&skip_file, &list).unwrap();
        std::fs::write(&table_file, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&skip_file).unwrap_or_default();
    let keys = |list: &str| -> BTreeSet<String> {
        list.lines()
            .filter_map(|line| line.rsplit_once('\t'))
            .map(|(key, _)| key.to_owned())
            .collect()
    };
    let (committed, found) = (keys(&committed), keys(&list));
    let fail_now: Vec<_> = found.difference(&committed).collect();
    let pass_now: Vec<_> = committed.difference(&found).collect();
    assert!(fail_now.is_empty(), "these fail and are not on the skip list: {fail_now:#?}");
    assert!(
        pass_now.is_empty(),
        "these pass and are on the skip list; take them off: {pass_now:#?}"
    );
    assert_eq!(
        std::fs::read_to_string(&table_file).unwrap_or_default(),
        table,
        "docs/operators.md is out of date (OG_REWRITE=1)"
    );
}

fn table(by_operator: &BTreeMap<String, Counts>, totals: Counts) -> String {
    let mut out = String::from(
        "# Supported ONNX operators\n\n\
         Made by `crates/zkml/tests/onnx_nodes.rs` from what passes of the standard's own node tests (package `onnx` 1.23.2); not written by hand.\n\n\
         *Floats*: the reference executor agrees within 1e-4 + 1e-3 of the value. *Integers*: the compiled program (16 bits, calibrated on the test's own\n\
         input) agrees within 1e-3 of the largest expected magnitude. Tests of several operators count in the totals only. What fails, and why, is listed\n\
         in `tests/vectors/zkml/onnx_nodes.skip`: most of it is training, strings, sequences, 4- and 8-bit floats, empty tensors and weights that are inputs.\n\n",
    );
    let _ = writeln!(
        out,
        "In all {} tests: {} pass in floats, {} in integers.\n",
        totals[0], totals[1], totals[2]
    );
    out += "| Operator | Tests | Floats | Integers |\n|---|---|---|---|\n";
    for (operator, [all, float, integer]) in by_operator.iter().filter(|(_, counts)| counts[1] > 0)
    {
        let _ = writeln!(out, "| {operator} | {all} | {float} | {integer} |");
    }
    out
}
