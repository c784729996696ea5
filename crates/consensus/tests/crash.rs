//! Four validators in a process that is killed at random moments: nothing that was final is lost or replaced, and the
//! chain goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]
#![allow(
    clippy::cast_possible_truncation,
    unreachable_pub,
    dead_code,
    reason = "tests share a module"
)]

mod chain;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chain::{Disk, Network};
use og_consensus::Timing;

const DIR: &str = "OG_CONSENSUS_CRASH_DIR";
const KILLS: u64 = 8;

fn network(dir: &Path) -> Network {
    let disk = |seat: u32| Arc::new(Mutex::new(Disk::open(&dir.join(format!("final-{seat}")))));
    let timing = Timing {
        empty_block_interval: Duration::from_millis(400),
        block_interval_min: Duration::from_millis(5),
        grace: Duration::from_millis(400),
    };
    Network::on(dir, (0..4).map(disk).collect(), timing)
}

/// Not a test of its own: the process that is killed. Prints every block that is final somewhere.
#[test]
#[ignore = "started by the test below"]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut network = network(Path::new(&dir));
    network.start_all();
    let start = std::process::id();
    for transaction in 0.. {
        network.submit(u64::from(start) << 32 | transaction);
        let seat = transaction as usize % 4;
        network.applications[seat].wait_for_transaction(u64::from(start) << 32 | transaction);
        println!("FINAL {}", u64::from(start) << 32 | transaction);
    }
}

#[test]
fn nothing_final_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut acknowledged = Vec::new();
    for _ in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_process_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 1 + random % 12;
        for line in lines {
            let line = line.unwrap();
            if let Some(transaction) = line.split("FINAL ").nth(1) {
                acknowledged.push(transaction.parse::<u64>().unwrap());
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        assert_eq!(left, 0, "the process ended by itself");
        // A moment between two blocks would be a tame one.
        std::thread::sleep(Duration::from_millis(random % 40));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let mut network = network(dir.path());
    network.start_all();
    network.submit(1);
    for application in &network.applications {
        application.wait_for_transaction(1);
    }
    for seat in 0..4 {
        network.stop(seat);
    }
    network.assert_agreement();
    let disk = network.disks[0].lock().unwrap();
    let mut included = Vec::new();
    for ((_, body), next) in disk.finalized.iter().zip(disk.finalized.iter().skip(1)) {
        assert_eq!(chain::parent(&next.1), og_primitives::keccak256(body).0);
    }
    for (_, body) in &disk.finalized {
        included.extend((2..(body.len() - 32) / 8).map(|index| chain::number(body, index)));
    }
    assert!(acknowledged.len() as u64 >= KILLS);
    for transaction in &acknowledged {
        let times = included.iter().filter(|other| *other == transaction).count();
        assert_eq!(times, 1, "an acknowledged transaction is in the chain {times} times");
    }
    println!(
        "{KILLS} kills, {} acknowledged transactions, {} blocks",
        acknowledged.len(),
        disk.finalized.len()
    );
}
