//! Models on the command line: from an ONNX file to a proof that a stranger checks.
#![allow(clippy::print_stdout, reason = "a test says what it leaves out")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]
#![allow(clippy::indexing_slicing, reason = "a missing JSON member fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use og_testkit::process::og_binary;
use serde_json::Value;

fn og(arguments: &[&str]) -> Output {
    Command::new(og_binary().unwrap()).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The shared models, or `None` with a line that says so.
fn shared_models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED models on the command line: no shared models");
    None
}

struct Case {
    model: &'static str,
    /// Largest proof file, H and W, bytes.
    bytes_max: [u64; 2],
    /// Largest proof file of mode S with backend H, bytes.
    succinct_max: u64,
}

#[test]
fn models_compile_and_their_inferences_are_proved_and_verified() {
    let Some(shared) = shared_models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        Case { model: "linear10", bytes_max: [4_096, 40_960], succinct_max: 4096 },
        Case { model: "logreg10", bytes_max: [4_096, 40_960], succinct_max: 4096 },
        Case { model: "mlp784", bytes_max: [12_288, 92_160], succinct_max: 16000 },
        Case { model: "lenet5", bytes_max: [65_536, 122_880], succinct_max: 16000 },
    ];
    for Case { model, bytes_max, succinct_max } in cases {
        let at = |name: String| shared.join(name).to_str().unwrap().to_owned();
        let onnx = at(format!("{model}.onnx"));
        let input = at(format!("{model}.input.json"));
        let compiled = folder.path().join(format!("{model}.qir"));
        let compiled = compiled.to_str().unwrap();
        let range = if model.ends_with("10") { "-8..8" } else { "0..1" };
        let shown =
            og(&["--json", "model", "compile", &onnx, "--input-range", range, "-o", compiled]);
        assert!(shown.status.success(), "{model}: {}", talk(&shown));
        let id = json(&shown)["model_id"].as_str().unwrap().to_owned();

        let certificate = folder.path().join("certificate.json");
        let certificate = certificate.to_str().unwrap();
        let certify = ["--json", "model", "certify", compiled, "--onnx", &onnx, "--data", &input];
        let certified = og(&[&certify[..], &["-o", certificate]].concat());
        assert!(certified.status.success(), "{model}: {}", talk(&certified));
        let certified = json(&certified);
        assert_eq!(certified["model_id"], id.as_str());
        assert_eq!(certified["same_argmax"], certified["rows"]);
        assert!(certified["max_error"].as_f64().unwrap() <= 3e-3, "{model}: {certified}");
        assert!(std::fs::read_to_string(certificate).unwrap().contains("reference f32"));

        let proof = folder.path().join(format!("{model}.S.ogz"));
        let proof = proof.to_str().unwrap();
        let succinct = ["--json", "prove", "--input", &input, "--mode", "S", "--out", proof];
        let succinct = og(&[&succinct[..], &["--model", compiled]].concat());
        assert!(succinct.status.success(), "{model}: {}", talk(&succinct));
        let succinct = json(&succinct);
        assert_eq!((&succinct["mode"], &succinct["model_id"]), (&"S".into(), &id.as_str().into()));
        let bytes = std::fs::metadata(proof).unwrap().len();
        assert!(bytes <= succinct_max, "{model}: {bytes} bytes");
        let stranger = og(&["verify", "--json", "--model-id", &id, proof]);
        assert_eq!(stranger.status.code(), Some(0), "{}", talk(&stranger));
        assert_eq!(json(&stranger)["inferences"][0]["outputs"], succinct["outputs"]);

        for (backend, bytes_max) in ["H", "W"].into_iter().zip(bytes_max) {
            let proof = folder.path().join(format!("{model}.{backend}.ogz"));
            let proof = proof.to_str().unwrap();
            let prove =
                ["--json", "prove", "--input", &input, "--backend", backend, "--out", proof];
            let proved = og(&[&prove[..], &["--model", compiled]].concat());
            assert!(proved.status.success(), "{model} {backend}: {}", talk(&proved));
            let proved = json(&proved);
            assert_eq!(proved["outputs"], succinct["outputs"], "{model} {backend}");
            assert_eq!(proved["model_id"], id.as_str(), "{model} {backend}");
            let bytes = proved["proof_bytes"].as_u64().unwrap();
            assert_eq!(bytes, std::fs::metadata(proof).unwrap().len());
            assert!(bytes <= bytes_max, "{model} {backend}: {bytes} bytes");

            // The bare ONNX file is the same model.
            let again = og(&[&prove[..], &["--model", &onnx, "--input-range", range]].concat());
            assert_eq!(json(&again)["model_id"], id.as_str());
            assert_eq!(json(&again)["outputs"], proved["outputs"]);

            let stranger = og(&["verify", "--json", proof]);
            assert_eq!(stranger.status.code(), Some(0), "{}", talk(&stranger));
            let stranger = json(&stranger);
            assert_eq!(stranger["says"], format!("valid for model {id}"));
            assert_eq!(stranger["model_expected"], false);
            assert!(stranger["soundness_bits"].as_u64().unwrap() >= 100);
            assert_eq!(stranger["inferences"][0]["outputs"], proved["outputs"]);
            for ours in [["--model", compiled], ["--model-id", &id]] {
                let known = og(&[&["verify", "--json", proof][..], &ours].concat());
                assert_eq!(known.status.code(), Some(0), "{}", talk(&known));
                assert_eq!(json(&known)["model_expected"], true);
            }
            let other = format!("0x{}", "00".repeat(32));
            assert_eq!(og(&["verify", proof, "--model-id", &other]).status.code(), Some(1));

            let bytes = std::fs::read(proof).unwrap();
            let broken = folder.path().join("broken.ogz");
            for at in [6, bytes.len() / 2, bytes.len() - 1] {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                std::fs::write(&broken, bytes).unwrap();
                let refused = og(&["verify", broken.to_str().unwrap()]);
                assert!(matches!(refused.status.code(), Some(1 | 2)), "byte {at}");
            }
        }
    }
}

#[test]
fn bad_files_are_refused_by_name_before_anything_is_proved() {
    let Some(shared) = shared_models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let onnx = shared.join("linear10.onnx");
    let onnx = onnx.to_str().unwrap();
    let out = folder.path().join("none.ogz");
    let prove = |model: &str, input: &str| {
        og(&["prove", "--model", model, "--input", input, "--out", out.to_str().unwrap()])
    };
    let good = write("good.json", r#"{"input_data": [[0,0,0,0,0,0,0,0,0,0]]}"#);
    let refusals = [
        (prove(&write("noise.onnx", "not a model"), &good), "noise.onnx"),
        (prove(&write("noise.qir", "OGM"), &good), "noise.qir"),
        (prove(onnx, &write("short.json", r#"{"input_data": [[1,2,3]]}"#)), "takes 10 numbers"),
        (prove(onnx, &write("many.json", r#"{"input_data": [[1],[2]]}"#)), "2 lists"),
        (
            prove(onnx, &write("far.json", r#"{"input_data": [[0,0,0,0,0,0,0,0,0,1e9]]}"#)),
            "element 9",
        ),
        (prove(onnx, &write("words.json", r#"{"input_data": [["NaN"]]}"#)), "words.json"),
        (prove(onnx, &write("empty.json", "")), "empty.json"),
        (prove(onnx, "/nowhere/input.json"), "/nowhere/input.json"),
    ];
    for (output, says) in refusals {
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(talk(&output).contains(says), "{says}: {}", talk(&output));
        assert!(!out.exists());
    }
    assert!(prove(onnx, &good).status.success());
}
