//! The state machine under arbitrary inputs: conservation, at most one charge per payment, charge equal to the
//! receipt's total, and a log that leads back to the same ledger from every crash point.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use og_meter::ledger::{Bill, Exposure};
use og_meter::*;
use og_primitives::ReceiptDigest;
use og_x402::PaymentId;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const ASSET: AssetId = AssetId { chain_id: 8453, token: Address::repeat_byte(0xfb) };

fn payment(n: u8) -> PaymentId {
    PaymentId(B256::repeat_byte(n))
}

fn receipt(n: u8) -> ReceiptDigest {
    ReceiptDigest(B256::repeat_byte(n))
}

fn reserve(n: u8, request: u8, bound: u64) -> Input {
    Input::Reserve {
        payment: payment(n),
        payer: Address::repeat_byte(n % 2),
        asset: ASSET,
        request: B256::repeat_byte(request),
        bound: U256::from(bound),
        permitted: U256::from(100),
        deadline_secs: NOW + 300,
        balance: Some(U256::from(150)),
        context: Bytes::from(vec![n; 3]),
    }
}

fn answer(n: u8, total: u64) -> Input {
    Input::Answer {
        payment: payment(n),
        receipt: receipt(n),
        total: U256::from(total),
        answer: Bytes::from(vec![n]),
    }
}

fn settle(n: u8, amount: u64) -> Input {
    Input::Settle {
        payment: payment(n),
        amount: U256::from(amount),
        transaction: Some(B256::repeat_byte(9)),
    }
}

fn run(ledger: &mut Ledger, input: Input) -> Result<Outcome, Refused> {
    step(ledger, input, NOW).map(|effects| effects.outcome)
}

fn bill(n: u8, total: u64) -> Bill {
    Bill { receipt: receipt(n), total: U256::from(total), answer: Bytes::from(vec![n]) }
}

#[test]
fn a_request_is_served_once_and_its_answer_can_be_fetched_again() {
    let mut ledger = Ledger::default();
    assert_eq!(run(&mut ledger, reserve(1, 1, 80)), Ok(Outcome::Reserved));
    assert_eq!(run(&mut ledger, reserve(1, 1, 80)), Ok(Outcome::Joined));
    assert_eq!(
        run(&mut ledger, reserve(1, 2, 80)),
        Err(Refused::AlreadyUsed { money: "reserved" })
    );
    assert_eq!(run(&mut ledger, answer(1, 30)), Ok(Outcome::Done));
    assert_eq!(run(&mut ledger, answer(1, 30)), Ok(Outcome::Already));
    assert_eq!(run(&mut ledger, answer(1, 31)), Err(Refused::WrongState { state: "pending" }));
    assert_eq!(run(&mut ledger, reserve(1, 1, 80)), Ok(Outcome::Stored(bill(1, 30))));
    assert_eq!(ledger.to_hand_over().collect::<Vec<_>>(), [payment(1)]);
    assert_eq!(run(&mut ledger, Input::HandOver { payment: payment(1) }), Ok(Outcome::Done));
    assert_eq!(ledger.to_confirm().collect::<Vec<_>>(), [payment(1)]);
    assert_eq!(
        run(&mut ledger, settle(1, 29)),
        Err(Refused::AmountDiffers { amount: U256::from(29), total: U256::from(30) })
    );
    assert_eq!(run(&mut ledger, settle(1, 30)), Ok(Outcome::Done));
    assert_eq!(run(&mut ledger, settle(1, 30)), Ok(Outcome::Already));
    assert_eq!(run(&mut ledger, reserve(1, 1, 80)), Ok(Outcome::Stored(bill(1, 30))));
    assert_eq!(run(&mut ledger, reserve(1, 2, 80)), Err(Refused::AlreadyUsed { money: "settled" }));
    assert_eq!(
        run(&mut ledger, Input::Release { payment: payment(1), reason: "x".to_owned() }),
        Err(Refused::WrongState { state: "settled" })
    );
    assert_eq!(ledger.exposure(Address::repeat_byte(1), ASSET), Exposure::default());
}

#[test]
fn a_failed_request_costs_nothing_and_may_try_again() {
    let mut ledger = Ledger::default();
    run(&mut ledger, reserve(1, 1, 80)).unwrap();
    let release = Input::Release { payment: payment(1), reason: "upstream_error".to_owned() };
    assert_eq!(run(&mut ledger, release.clone()), Ok(Outcome::Done));
    assert_eq!(run(&mut ledger, release), Ok(Outcome::Already));
    assert_eq!(ledger.exposure(Address::repeat_byte(1), ASSET), Exposure::default());
    assert_eq!(run(&mut ledger, answer(1, 1)), Err(Refused::WrongState { state: "released" }));
    assert_eq!(run(&mut ledger, reserve(1, 2, 1)), Err(Refused::AlreadyUsed { money: "released" }));
    assert_eq!(run(&mut ledger, reserve(1, 1, 80)), Ok(Outcome::Reserved));
}

#[test]
fn what_could_not_be_collected_is_refused_before_it_is_served() {
    let mut ledger = Ledger::new(Limits { in_flight_per_payer_max: 3, ..Limits::default() });
    let changed = |change: fn(&mut u64, &mut U256)| {
        let mut input = reserve(9, 1, 100);
        if let Input::Reserve { deadline_secs, bound, .. } = &mut input {
            change(deadline_secs, bound);
        }
        input
    };
    assert_eq!(
        run(&mut ledger, changed(|_, bound| *bound = U256::from(101))),
        Err(Refused::AbovePermitted { bound: U256::from(101), permitted: U256::from(100) })
    );
    assert_eq!(
        run(&mut ledger, changed(|deadline, _| *deadline = NOW + 9)),
        Err(Refused::DeadlineTooClose { margin_secs: 10 })
    );
    assert_eq!(
        run(&mut ledger, changed(|deadline, _| *deadline = u64::MAX)),
        Err(Refused::DeadlineTooFar { max_secs: 7_200 })
    );
    // Two of 70 leave 10 of a balance of 150: open requests count, whether answered or not.
    run(&mut ledger, reserve(1, 1, 70)).unwrap();
    run(&mut ledger, reserve(3, 1, 70)).unwrap();
    let refused = Refused::BalanceTooLow {
        balance: U256::from(150),
        needed: U256::from(11),
        open: U256::from(140),
    };
    assert_eq!(run(&mut ledger, reserve(5, 1, 11)), Err(refused));
    run(&mut ledger, answer(1, 20)).unwrap();
    run(&mut ledger, reserve(5, 1, 60)).unwrap();
    assert_eq!(run(&mut ledger, reserve(7, 1, 0)), Err(Refused::TooManyInFlight { max: 3 }));
    // Another payer is another matter.
    run(&mut ledger, reserve(2, 1, 100)).unwrap();
    assert_eq!(
        run(&mut ledger, answer(2, 101)),
        Err(Refused::TotalAbovePermitted { total: U256::from(101), permitted: U256::from(100) })
    );
    assert_eq!(run(&mut ledger, answer(8, 1)), Err(Refused::Unknown));
}

#[test]
fn only_what_is_over_and_expired_is_forgotten() {
    let mut ledger = Ledger::default();
    for n in [1, 2, 3] {
        run(&mut ledger, reserve(n, 1, 10)).unwrap();
    }
    run(&mut ledger, answer(1, 10)).unwrap();
    run(&mut ledger, settle(1, 10)).unwrap();
    run(&mut ledger, answer(2, 10)).unwrap();
    let end = NOW + 300 + Limits::default().retention_secs;
    assert!(step(&mut ledger, Input::Forget, end).unwrap().records.is_empty());
    let effects = step(&mut ledger, Input::Forget, end + 1).unwrap();
    assert_eq!(effects.records, [Record::Forgotten { payment: payment(1) }]);
    assert!(ledger.entry(&payment(1)).is_none());
    assert_eq!(ledger.entries().count(), 2);
    assert_eq!(ledger.interrupted().collect::<Vec<_>>(), [payment(3)]);
}

fn any_input() -> impl Strategy<Value = Input> {
    let n = 0_u8..6;
    prop_oneof![
        3 => (n.clone(), 0_u8..3, 0_u64..130).prop_map(|(n, request, bound)| reserve(n, request, bound)),
        2 => (n.clone(), 0_u64..130).prop_map(|(n, total)| answer(n, total)),
        1 => n.clone().prop_map(|n| Input::Release { payment: payment(n), reason: "r".to_owned() }),
        1 => n.clone().prop_map(|n| Input::HandOver { payment: payment(n) }),
        2 => (n.clone(), 0_u64..130).prop_map(|(n, amount)| settle(n, amount)),
        1 => n.prop_map(|n| Input::Reject { payment: payment(n), reason: "j".to_owned() }),
        1 => Just(Input::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn money_is_conserved_and_every_log_leads_back(
        inputs in prop::collection::vec((any_input(), 0_u64..200), 0..80), cut in any::<prop::sample::Index>(),
    ) {
        let mut ledger = Ledger::default();
        let mut log = Vec::new();
        let mut now = NOW;
        let mut charges: BTreeMap<PaymentId, (U256, ReceiptDigest)> = BTreeMap::new();
        let mut served: BTreeMap<PaymentId, B256> = BTreeMap::new();
        for (input, pause) in inputs {
            now += pause;
            let before = ledger.snapshot();
            match step(&mut ledger, input.clone(), now) {
                Err(_) => prop_assert_eq!(ledger.snapshot(), before),
                Ok(effects) => {
                    if let (Outcome::Reserved, Input::Reserve { payment, request, .. }) = (&effects.outcome, &input) {
                        // A payment that was presented stays bound to its request until it has expired.
                        let bound_to = *served.entry(*payment).or_insert(*request);
                        prop_assert!(bound_to == *request);
                    }
                    for record in &effects.records {
                        match record {
                            Record::Settled { payment, .. } => {
                                let bill = ledger.entry(payment).unwrap().state.bill().unwrap();
                                let charge = (bill.total, bill.receipt);
                                prop_assert!(bill.total <= ledger.entry(payment).unwrap().permitted);
                                prop_assert!(charges.insert(*payment, charge).is_none(), "charged twice");
                            }
                            Record::Forgotten { payment } => {
                                charges.remove(payment);
                                served.remove(payment);
                            }
                            _ => {}
                        }
                    }
                    log.extend(effects.records);
                }
            }
            // What the ledger says of exposure is what its entries add up to.
            for payer in [Address::repeat_byte(0), Address::repeat_byte(1)] {
                let amount = ledger
                    .entries()
                    .filter(|(_, entry)| entry.payer == payer)
                    .fold(U256::ZERO, |sum, (_, entry)| sum + entry.exposure());
                prop_assert_eq!(ledger.exposure(payer, ASSET).amount, amount);
            }
        }
        let replayed = Ledger::replay(Limits::default(), log.clone()).unwrap();
        prop_assert_eq!(replayed.snapshot(), ledger.snapshot());
        let compacted = Ledger::replay(Limits::default(), ledger.snapshot()).unwrap();
        prop_assert_eq!(compacted.snapshot(), ledger.snapshot());

        // A crash keeps a prefix of the bytes; what is read of them is a prefix of the log, and replays.
        let mut bytes = Vec::new();
        for (position, record) in log.iter().enumerate() {
            prop_assert_eq!(&Record::decode(&record.encode()).unwrap(), record);
            bytes.extend(journal::frame(u64::try_from(position).unwrap(), record).unwrap());
        }
        let cut = cut.index(bytes.len() + 1);
        let read = journal::read(&bytes[..cut]).unwrap();
        prop_assert!(log.starts_with(&read.records));
        prop_assert!(read.valid_bytes <= cut);
        prop_assert!(Ledger::replay(Limits::default(), read.records.clone()).is_ok());
        let mut zeros = bytes[..read.valid_bytes].to_vec();
        zeros.resize(read.valid_bytes + 64, 0);
        prop_assert_eq!(journal::read(&zeros).unwrap(), read);
    }
}

#[test]
fn a_damaged_journal_is_told_from_a_torn_one() {
    use og_meter::journal::{JournalError, frame, read};
    let records = [
        Record::HandedOver { payment: payment(1), at_secs: 1 },
        Record::Forgotten { payment: payment(1) },
    ];
    let frames: Vec<_> =
        records.iter().enumerate().map(|(n, record)| frame(n as u64, record).unwrap()).collect();
    let log = frames.concat();
    assert_eq!(read(&log).unwrap().records, records);
    // Every flipped bit of the first frame is damage; of the last one it may be a torn write, never a record.
    for bit in 0..log.len() * 8 {
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(&damaged) {
            Err(JournalError::Damaged { at }) => assert!(at == 0 || at == frames[0].len()),
            Ok(read) => {
                assert!(bit / 8 >= frames[0].len());
                assert_eq!(read.records, records[..1]);
            }
            Err(error) => panic!("{error}"),
        }
    }
    let swapped = [frames[1].clone(), frames[0].clone()].concat();
    assert_eq!(read(&swapped), Err(JournalError::Damaged { at: 0 }));
    let dropped = [frames[1].clone(), frames[1].clone()].concat();
    assert_eq!(read(&dropped), Err(JournalError::Damaged { at: 0 }));
}

#[test]
fn a_log_that_could_not_have_been_written_is_refused() {
    let answered = Record::Answered {
        payment: payment(1),
        receipt: receipt(1),
        total: U256::ONE,
        at_secs: NOW,
        answer: Bytes::new(),
    };
    let error = Ledger::replay(Limits::default(), [answered]).unwrap_err();
    assert_eq!(error.position, 0);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_record_or_encode_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        let _ = journal::read(&bytes);
    }
}

#[test]
fn mutated_records_never_panic() {
    let mut seed = 7_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    let mut ledger = Ledger::default();
    let mut originals = step(&mut ledger, reserve(1, 1, 80), NOW).unwrap().records;
    originals.extend(step(&mut ledger, answer(1, 3), NOW).unwrap().records);
    originals.extend(step(&mut ledger, settle(1, 3), NOW).unwrap().records);
    let mut decoded = 0;
    for round in 0..20_000 {
        let mut bytes = originals[round % originals.len()].encode();
        let at = next() % bytes.len();
        bytes[at] ^= 1 << (next() % 8);
        if let Ok(record) = Record::decode(&bytes) {
            assert_eq!(record.encode(), bytes);
            decoded += 1;
        }
    }
    assert!(decoded > 0);
}
