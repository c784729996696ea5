//! Killed at any moment, a chain comes back with everything that was final.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use alloy_primitives::{B256, Bytes, U256};
use og_chain::{At, Chain, Storage, encode_block};
use support::*;

const CHILD: &str = "OG_CHAIN_CRASH_CHILD";

/// Not a test of its own: run by the test below in a process that gets killed.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let chain = Chain::open(&Storage::File(path.into()), genesis()).expect("opens");
    for nonce in chain.head().number.. {
        let block = advance(
            &chain,
            vec![
                Tx::call(0, nonce, at(0xc0), words(&[nonce % 7, nonce + 1])).legacy(),
                Tx::call(1, nonce, at(0xc1), words(&[nonce])).legacy(),
            ],
        );
        println!("FINAL {} {}", block.number(), block.hash);
    }
}

#[test]
fn a_killed_process_loses_nothing_final() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chain.redb");
    let me = std::env::current_exe().expect("this binary");
    let mut last = (0, B256::ZERO);
    for round in 0..6_u32 {
        let mut child = Command::new(&me)
            .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // A few blocks, then dead in the middle of whatever comes next; the pause differs by round.
        let mut seen = 0;
        for line in lines {
            let line = line.expect("a line");
            let Some((_, rest)) = line.split_once("FINAL ") else { continue };
            let (number, hash) = rest.split_once(' ').expect("number and hash");
            last = (number.parse().expect("a number"), hash.parse().expect("a hash"));
            seen += 1;
            if seen == 3 + round {
                std::thread::yield_now();
                child.kill().expect("kills");
                break;
            }
        }
        child.wait().expect("ends");

        let chain =
            Chain::open(&Storage::File(path.clone()), genesis()).expect("opens after a kill");
        let head = chain.head();
        assert!(head.number >= last.0, "{} is final, the head is {}", last.0, head.number);
        assert_eq!(chain.canonical_hash(last.0).unwrap(), Some(last.1));
        // Everything is whole: a second chain re-executes the stored blocks to the same hashes.
        let replay = support::chain();
        for number in 1..=head.number {
            let block = chain.block(At::Number(number)).unwrap().expect("stored");
            let executed = replay.execute(&block.block).expect("valid");
            assert_eq!(encode_block(&executed.block), encode_block(&block.block));
            replay.finalize(executed.hash, None).expect("finalises");
            let slot = B256::from(U256::from((number - 1) % 7));
            let stored = chain.storage(at(0xc0), slot, At::Number(number)).unwrap();
            assert_eq!(stored, B256::from(U256::from(number)));
        }
        chain.finalize(head.hash, Some(&Bytes::from_static(b"late"))).expect("idempotent");
    }
    assert!(last.0 >= 18, "{last:?}");
}
