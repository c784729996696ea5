//! The legacy formats against the shared vectors, against seeded mutations, and against CPython itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it expects")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use alloy_primitives::{B256, keccak256};
use og_gateway::legacy::canonical::{
    ToolCall, chat_subset, output_hash, request_hash, tool_calls_text,
};
use og_gateway::legacy::json::{Limits, Value, parse};
use og_gateway::legacy::python::dumps_sorted;
use og_receipt::claims::message_hash;

const PYTHON: Limits = Limits { python_words: true, ..Limits::REQUEST };

#[test]
fn shared_client_vectors_hold() {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read(folder.join("clients.json")) else {
        println!("SKIPPED shared_client_vectors_hold: no shared vectors");
        return;
    };
    let vectors = parse(&text, &PYTHON).unwrap();
    let mut count = 0;
    for vector in vectors.get("json_dumps").and_then(Value::as_array).unwrap() {
        let json = vector.get("json").and_then(Value::as_str).unwrap();
        let value = parse(json.as_bytes(), &PYTHON).unwrap();
        assert_eq!(dumps_sorted(&value), json);
        assert_eq!(keccak256(json), hash(vector.get("keccak").unwrap()));
        count += 1;
    }
    let message = vectors.get("tee_msg").unwrap();
    let of = |key: &str| message.get(key).unwrap();
    let body = parse(of("canonical").as_str().unwrap().as_bytes(), &Limits::REQUEST).unwrap();
    let input = request_hash(&chat_subset(&body).unwrap());
    let output = output_hash(of("output").as_str().unwrap(), &[]);
    let timestamp = of("timestamp").as_number().unwrap().as_u64().unwrap();
    assert_eq!(input, hash(of("input_hash")));
    assert_eq!(output, hash(of("output_hash")));
    assert_eq!(message_hash(input, output, timestamp), hash(of("msg_hash")));
    let calls = [ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"a\": 1}".into() }];
    let expected = vectors.get("tool_calls_output").unwrap();
    assert_eq!(tool_calls_text(&calls), expected.get("dumps").unwrap().as_str().unwrap());
    assert_eq!(output_hash("", &calls), hash(expected.get("hash").unwrap()));
    println!("VECTORS clients.json {}", count + 2);
}

fn hash(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

/// Seeded pseudo-random numbers (SplitMix64), so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap()
    }
}

fn random_number(random: &mut Random) -> String {
    match random.below(7) {
        0 => format!("{}", random.next()),
        1 => format!("-{}{}", 1 + random.below(9), random.next()),
        2 => format!("{:e}", f64::from_bits(random.next())).replace("inf", "1").replace("NaN", "2"),
        3 => format!("{}.{}", random.below(1000), random.next()),
        4 => format!("{}e{}", random.below(100), random.below(40)),
        5 => format!("0.{}{}E-{}", "0".repeat(random.below(6)), random.next(), random.below(330)),
        _ => format!("{}.0", random.next() % (1 << 60)),
    }
}

fn random_string(random: &mut Random, out: &mut String) {
    out.push('"');
    for _ in 0..random.below(6) {
        let c = match random.below(5) {
            0 => char::from_u32(u32::try_from(random.below(0x80)).unwrap()),
            1 => char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap()),
            2 => Some('\u{7f}'),
            _ => char::from_u32(0x61 + u32::try_from(random.below(26)).unwrap()),
        };
        match c {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some(c) if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            Some(c) if random.below(2) == 0 => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out.push('"');
}

fn random_value(random: &mut Random, depth: usize, out: &mut String) {
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => out.push_str(["null", "true", "false"][random.below(3)]),
        1 | 2 => out.push_str(&random_number(random)),
        3 => random_string(random, out),
        4 => {
            out.push('[');
            for i in 0..random.below(4) {
                out.push_str(if i > 0 { " , " } else { "" });
                random_value(random, depth - 1, out);
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for i in 0..random.below(4) {
                out.push_str(if i > 0 { "," } else { "" });
                random_string(random, out);
                out.push_str(": ");
                random_value(random, depth - 1, out);
            }
            out.push('}');
        }
    }
}

#[test]
fn cpython_writes_the_same_bytes() {
    let python = "import sys, json\n\
        for line in sys.stdin.buffer:\n    \
            sys.stdout.write(json.dumps(json.loads(line), sort_keys=True) + '\\n')\n";
    let Ok(mut child) = Command::new("python3")
        .args(["-c", python])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        println!("SKIPPED cpython_writes_the_same_bytes: no python3");
        return;
    };
    let mut random = Random(7);
    let texts: Vec<String> = (0..5000)
        .map(|_| {
            let mut text = String::new();
            random_value(&mut random, 4, &mut text);
            text
        })
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    let input = texts.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), texts.len());
    for (text, expected) in texts.iter().zip(lines) {
        assert_eq!(dumps_sorted(&parse(text.as_bytes(), &PYTHON).unwrap()), expected, "{text}");
    }
}

#[test]
fn mutated_text_never_panics_and_what_is_read_is_read_again() {
    let mut random = Random(11);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let mut text = String::new();
        random_value(&mut random, 4, &mut text);
        let mut bytes = text.into_bytes();
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len() as u64);
            match random.below(3) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b"{}[]\",:\\u0eE-+."[random.below(15)]),
            }
        }
        let Ok(value) = parse(&bytes, &PYTHON) else { continue };
        accepted += 1;
        let again = parse(value.to_json().as_bytes(), &PYTHON).unwrap();
        assert_eq!(again, value);
        // Sorting is stable under reading back: the canonical form is a fixed point.
        let canonical = dumps_sorted(&value);
        assert_eq!(dumps_sorted(&parse(canonical.as_bytes(), &PYTHON).unwrap()), canonical);
        let _ = chat_subset(&value);
    }
    assert!(accepted > 10_000, "{accepted}");
}
