//! The command line, as the README shows it: a demo that proves what it says, and a bundle that strangers can check.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use og_e2e::network::{Network, mock_model};
use og_testkit::process::og_binary;

fn og(arguments: &[&str]) -> Output {
    Command::new(og_binary().unwrap()).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout ---\n{}\n--- stderr ---\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// `og` in a network namespace of its own with nothing but a loopback device; `None` where that is not allowed.
fn og_without_network(arguments: &[&str]) -> Option<Output> {
    let isolate = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"]);
        command
    };
    let loopback = "ip link set lo up";
    if !isolate(loopback).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let script = format!("{loopback} && exec \"$@\"");
    Some(isolate(&script).arg(og_binary().unwrap()).args(arguments).output().unwrap())
}

#[test]
fn the_demo_succeeds_twice_the_second_time_without_network() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("demo.ogp");
    let first = og(&["demo", "--receipt", bundle.to_str().unwrap()]);
    assert!(first.status.success(), "{}", said(&first));
    assert!(bundle.is_file(), "{}", said(&first));
    let text = said(&first);
    assert!(text.contains("simulated"), "the enclave is called what it is: {text}");

    match og_without_network(&["demo"]) {
        Some(second) => assert!(second.status.success(), "{}", said(&second)),
        None => println!("SKIPPED the demo without network: no network namespaces here"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_verifies_offline_and_not_when_anything_is_changed() {
    let network = Network::start(false).await.unwrap();
    let devnet = network.file().to_str().unwrap().to_owned();
    let bundle = network.directory().join("answer.ogp");
    let path = bundle.to_str().unwrap();
    let chat = tokio::task::block_in_place(|| {
        og(&[
            "chat",
            "--devnet",
            &devnet,
            "--model",
            mock_model(),
            "--receipt",
            path,
            "one two three",
        ])
    });
    assert!(chat.status.success(), "{}", said(&chat));
    assert!(
        String::from_utf8_lossy(&chat.stdout).contains("You said: one two three"),
        "{}",
        said(&chat)
    );
    assert_eq!(network.mock.count(), 1);
    let kept = network.directory().join("anchors.json");
    std::fs::copy(network.file(), &kept).unwrap();
    network.settled_receipts().await.unwrap();
    let trust = kept.to_str().unwrap();

    let verify = |file: &Path, extra: &[&str]| {
        let mut arguments = vec!["verify", "--offline"];
        arguments.extend(extra);
        arguments.push(file.to_str().unwrap());
        og(&arguments)
    };
    let good = verify(&bundle, &["--trust", trust]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    if let Some(isolated) = og_without_network(&["verify", "--offline", "--trust", trust, path]) {
        assert_eq!(isolated.status.code(), Some(0), "{}", said(&isolated));
    }
    assert_eq!(verify(&bundle, &[]).status.code(), Some(3), "no trust anchor");

    let bytes = std::fs::read(&bundle).unwrap();
    let changed = network.directory().join("changed.ogp");
    for step in 0..24 {
        let at = (bytes.len() - 1) * step / 23;
        let mut mutant = bytes.clone();
        mutant[at] ^= 0x10;
        std::fs::write(&changed, &mutant).unwrap();
        let output = verify(&changed, &["--trust", trust]);
        assert!([Some(1), Some(2)].contains(&output.status.code()), "byte {at}: {}", said(&output));
    }
    std::fs::write(&changed, b"no bundle").unwrap();
    assert_eq!(verify(&changed, &["--trust", trust]).status.code(), Some(2));

    // Another network's anchors do not fit.
    let other = Network::start(false).await.unwrap();
    let foreign = verify(&bundle, &["--devnet", other.file().to_str().unwrap()]);
    assert_eq!(foreign.status.code(), Some(1), "{}", said(&foreign));
    other.stop().unwrap();
    network.stop().unwrap();
}

#[test]
fn mistakes_are_explained_not_crashed_on() {
    for (arguments, code) in [
        (&["verify", "/nonexistent.ogp"][..], 2),
        (&["chat", "--devnet", "/nonexistent.json", "hi"], 1),
        (&["dev", "--ports", "80"], 2),
        (&["nonsense"], 2),
    ] {
        let output = og(arguments);
        let text = said(&output);
        assert_ne!(output.status.code(), Some(0), "{arguments:?}: {text}");
        assert!(
            output.status.code().is_some_and(|given| given == code || given < 64),
            "{arguments:?}: {text}"
        );
        assert!(!text.contains("panicked") && !output.stderr.is_empty(), "{arguments:?}: {text}");
    }
}
