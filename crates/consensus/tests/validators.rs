//! Validators in one process, over real connections.

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

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chain::{Counters, GENESIS, Network, percentile};
use og_consensus::{Error, Timing, ValidatorKeys, spawn};
use og_light::{ValidatorSet, verify_certificate};
use og_primitives::B256;

fn quick() -> Timing {
    Timing {
        empty_block_interval: Duration::from_millis(400),
        block_interval_min: Duration::from_millis(5),
        grace: Duration::from_millis(400),
    }
}

#[test]
fn four_validators_finalise_what_is_submitted() {
    let mut network = Network::new(4, Timing::default());
    let started = Instant::now();
    network.start_all();
    network.submit(0);
    network.applications[0].wait_for_transaction(0);
    println!("first finality after start: {:?}", started.elapsed());

    let mut round_trips = Vec::new();
    for transaction in 1..=100 {
        let submitted = Instant::now();
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
        round_trips.push(submitted.elapsed());
    }
    for application in &network.applications {
        application.wait_for_transaction(100);
    }
    let mut latencies: Vec<_> =
        network.applications.iter().flat_map(|app| app.latencies()).collect();
    println!(
        "propose to finalized, p50 {:?}, p99 {:?}; submit to finalized, p50 {:?}, p99 {:?}",
        percentile(&mut latencies, 50),
        percentile(&mut latencies, 99),
        percentile(&mut round_trips, 50),
        percentile(&mut round_trips, 99),
    );
    // Generous, because the test shares the machine; the figure above is what counts.
    assert!(percentile(&mut round_trips, 50) < Duration::from_millis(500));
    for seat in 0..4 {
        network.stop(seat);
    }
    network.assert_agreement();
    for disk in &network.disks {
        let disk = disk.lock().unwrap();
        assert!(disk.certificates.len() >= 100 / 2);
        for (digest, certificate) in &disk.certificates {
            let verdict =
                verify_certificate(&network.set, B256::from(GENESIS), certificate).unwrap();
            assert_eq!(verdict.payload.0, *digest);
            assert!(verdict.signers.len() >= 3);
        }
    }
}

#[test]
fn an_idle_chain_makes_empty_blocks() {
    let mut network = Network::new(4, quick());
    network.start_all();
    network.applications[0].wait_for_height(3);
    network.assert_agreement();
}

#[test]
fn large_blocks_reach_everybody() {
    const NUMBERS: u64 = 1 << 18;
    let mut network = Network::new(4, Timing { grace: Duration::from_secs(5), ..quick() });
    network.start_all();
    for application in &network.applications {
        application.padding.store(NUMBERS, Ordering::SeqCst);
    }
    for application in &network.applications {
        application.wait_for("four large blocks", |_, included| {
            u64::try_from(included.len()).unwrap() >= 4 * NUMBERS
        });
    }
    network.assert_agreement();
}

#[test]
fn a_single_validator_is_a_chain() {
    let mut network = Network::new(1, quick());
    network.start_all();
    for transaction in 0..5 {
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
    }
    network.stop(0);
    network.start_all();
    network.submit(5);
    network.applications[0].wait_for_transaction(5);
}

#[test]
fn three_of_four_go_on_and_the_fourth_catches_up() {
    let mut network = Network::new(4, quick());
    network.start_all();
    network.submit(0);
    for application in &network.applications {
        application.wait_for_transaction(0);
    }
    network.stop(3);
    for transaction in 1..=40 {
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
    }
    network.start(3, false);
    network.submit(41);
    for application in &network.applications {
        application.wait_for_transaction(41);
    }
    // It votes again: with another one gone, its vote is needed.
    network.stop(1);
    network.submit(42);
    for seat in [0, 2, 3] {
        network.applications[seat].wait_for_transaction(42);
    }
    network.assert_agreement();
}

#[test]
fn a_network_that_was_down_resumes_with_what_was_final() {
    let mut network = Network::new(4, quick());
    for round in 0..3 {
        network.start_all();
        for transaction in 10 * round..10 * round + 10 {
            network.submit(transaction);
            network.applications[0].wait_for_transaction(transaction);
        }
        // What is not final is lost with the applications; bodies and votes are not.
        for seat in 0..4 {
            network.stop(seat);
        }
    }
    network.assert_agreement();
    assert!(network.disks[0].lock().unwrap().finalized.len() >= 30 / 2);
}

#[test]
fn an_application_that_lost_its_disk_is_rebuilt_from_peers() {
    let mut network = Network::new(4, quick());
    network.start_all();
    for transaction in 0..150 {
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
    }
    network.stop(2);
    *network.disks[2].lock().unwrap() = chain::Disk::default();
    network.start(2, false);
    network.submit(150);
    network.applications[2].wait_for_transaction(150);
    network.assert_agreement();
}

#[test]
fn a_leader_of_bad_blocks_only_loses_its_turns() {
    let mut network = Network::new(4, quick());
    for seat in 0..3 {
        network.start(seat, false);
    }
    network.start(3, true);
    for transaction in 0..12 {
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
    }
    assert!(network.applications[0].refused() > 0, "nothing bad was proposed");
    for seat in 0..4 {
        network.stop(seat);
    }
    network.assert_agreement();
    for (_, body) in &network.disks[0].lock().unwrap().finalized {
        assert_ne!(chain::number(body, 0), u64::MAX);
    }
}

#[test]
fn a_rogue_key_has_no_proof_of_possession() {
    let honest = ValidatorKeys::from_seed(&[1; 32], 0).validator();
    let attacker = ValidatorKeys::from_seed(&[1; 32], 1).validator();
    // The attacker claims another's key, with its own proof and with a proof for another key.
    let mut stolen = attacker;
    stolen.public_key = honest.public_key;
    assert!(matches!(
        ValidatorSet::new(vec![honest, stolen]),
        Err(og_light::Error::ValidatorDuplicate { .. })
    ));
    let mut rogue = ValidatorKeys::from_seed(&[1; 32], 2).validator();
    rogue.possession = attacker.possession;
    assert!(matches!(
        ValidatorSet::new(vec![honest, rogue]),
        Err(og_light::Error::ValidatorPossession { .. })
    ));
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_starts() {
    let network = Network::new(4, quick());
    let application = || Counters::new(&network.set, &network.disks[0], false);
    let mut config = network.config(0);
    config.keys = ValidatorKeys::from_seed(&[9; 32], 0);
    assert!(matches!(spawn(config, application()), Err(Error::NoSeat)));
    let mut config = network.config(0);
    config.addresses.pop();
    assert!(matches!(
        spawn(config, application()),
        Err(Error::Addresses { addresses: 3, seats: 4 })
    ));
    let mut config = network.config(0);
    config.timing.empty_block_interval = Duration::from_secs(6);
    assert!(matches!(spawn(config, application()), Err(Error::Timing(_))));
}

#[test]
fn two_runs_on_one_directory_are_refused() {
    let mut network = Network::new(1, quick());
    network.start_all();
    network.submit(0);
    network.applications[0].wait_for_transaction(0);
    let second = spawn(network.config(0), Counters::new(&network.set, &network.disks[0], false));
    assert!(matches!(second, Err(Error::InUse { .. })));
    network.submit(1);
    network.applications[0].wait_for_transaction(1);
}

#[test]
fn a_validator_that_cannot_store_stops_and_resumes() {
    let mut network = Network::new(4, quick());
    network.start_all();
    network.submit(0);
    for application in &network.applications {
        application.wait_for_transaction(0);
    }
    let known = network.disks[2].lock().unwrap().finalized.len();
    network.applications[2].halted.store(true, Ordering::SeqCst);
    for transaction in 1..=20 {
        network.submit(transaction);
        network.applications[0].wait_for_transaction(transaction);
    }
    let handle = network.handles[2].take().unwrap();
    let deadline = Instant::now() + chain::DEADLINE;
    while handle.is_running() {
        assert!(Instant::now() < deadline, "still running");
        std::thread::yield_now();
    }
    assert!(matches!(handle.stop(), Err(Error::Ended("delivery of finality"))));
    assert!(network.disks[2].lock().unwrap().finalized.len() <= known + 1);
    network.start(2, false);
    network.submit(21);
    network.applications[2].wait_for_transaction(21);
    network.assert_agreement();
}
