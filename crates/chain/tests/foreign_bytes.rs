//! Foreign bytes and foreign blocks never panic, and never pass unless they are the real thing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use alloy_primitives::Bytes;
use og_chain::{BLOCK_BYTES_MAX, block_hash, decode_block, encode_block};
use support::*;

/// Numbers from a seed (SplitMix64), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let place = numbers.below(bytes.len());
        match numbers.below(6) {
            0 => bytes[place] ^= 1 << numbers.below(8),
            1 => bytes[place] = u8::try_from(numbers.below(256)).unwrap(),
            2 => bytes.truncate(place.max(1)),
            3 => bytes.insert(place, u8::try_from(numbers.below(256)).unwrap()),
            4 => drop(bytes.remove(place)),
            _ => {
                let from = numbers.below(bytes.len());
                let len = numbers.below(40).min(bytes.len() - from.max(place));
                let piece = bytes[from..from + len].to_vec();
                bytes[place..place + len].copy_from_slice(&piece);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn mutated_blocks_are_refused_and_nothing_panics() {
    let proposer = chain();
    let block = propose(
        &proposer,
        vec![
            Tx::transfer(0, 0, at(0x11), 1).legacy(),
            Tx::call(1, 0, at(0xc0), words(&[1, 2])).eip2930(),
            Tx::call(2, 0, at(0xc1), words(&[3])).eip1559(),
            Tx::call(3, 0, at(0x22), Bytes::new()).eip7702(4, 0, at(0xc0)),
        ],
    );
    let good = encode_block(&block.block);
    let voter = chain();
    let (mut decoded, mut unchanged) = (0_u32, 0_u32);
    for seed in 0..20_000_u64 {
        let mut bytes = good.to_vec();
        mutate(&mut bytes, &mut Numbers(seed));
        let Ok(read) = decode_block(&bytes) else { continue };
        decoded += 1;
        assert_eq!(encode_block(&read).as_ref(), bytes, "seed {seed}: one encoding only");
        if bytes == good.as_ref() {
            unchanged += 1;
            continue;
        }
        if voter.execute(&read).is_ok() {
            // Only the time is the proposer's to choose, within the same second here.
            let mut same = read.clone();
            same.header.extra_data = block.header().extra_data.clone();
            assert_eq!(same, block.block, "seed {seed}");
        }
    }
    assert!(decoded > unchanged + 100, "mutants reach the executor: {decoded}, {unchanged}");
    assert_eq!(voter.execute(&block.block).expect("valid").hash, block_hash(block.header()));
}

#[test]
fn random_bytes_are_no_block() {
    for seed in 0..20_000_u64 {
        let mut numbers = Numbers(seed);
        let len = numbers.below(200);
        let bytes: Vec<u8> = (0..len).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect();
        assert!(decode_block(&bytes).is_err());
    }
    // A list head that promises more than there is, and lists in lists.
    for bytes in
        [vec![0xfb, 0xff, 0xff, 0xff, 0xff], vec![0xc1; 10_000], vec![0xf8; BLOCK_BYTES_MAX]]
    {
        assert!(decode_block(&bytes).is_err());
    }
}
