//! Headers from strangers: limits, round trips, and a seeded mutator that must never find a panic or a payment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use alloy_primitives::{Address, U256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use og_x402::header::{HEADER_BYTES_MAX, HeaderError, decode, encode};
use og_x402::wire::{EvmTerms, TokenDomain};
use og_x402::*;
use proptest::prelude::*;

#[test]
fn headers_that_are_none_are_named() {
    let long = vec![b'A'; HEADER_BYTES_MAX + 1];
    assert!(matches!(decode::<PaymentPayload>(&long), Err(HeaderError::TooLong { .. })));
    for bytes in ["!", "e30", "e30==", "e3\n0=", "_-8="] {
        assert!(
            matches!(decode::<PaymentPayload>(bytes.as_bytes()), Err(HeaderError::Base64)),
            "{bytes}"
        );
    }
    let deep = "[".repeat(10_000);
    for json in ["", "{}", "null", "[]", "{\"x402Version\":\"2\"}", "\u{feff}{}", deep.as_str()] {
        let header = STANDARD.encode(json);
        assert!(
            matches!(decode::<PaymentPayload>(header.as_bytes()), Err(HeaderError::Json(_))),
            "{json}"
        );
        assert!(
            matches!(decode::<PaymentRequired>(header.as_bytes()), Err(HeaderError::Json(_))),
            "{json}"
        );
    }
}

#[test]
fn an_offer_is_echoed_with_everything_it_said() {
    let json = serde_json::json!({
        "x402Version": 2, "error": "Payment required", "surprise": [1, 2.5, null],
        "resource": {"url": "u", "tags": ["a"], "iconUrl": "i"},
        "accepts": [{"scheme": "new", "network": "solana:x", "asset": "So1", "amount": "1", "payTo": "p",
            "maxTimeoutSeconds": 60, "extra": {"deep": {"n": 1}}, "outputSchema": {"k": true}}],
        "extensions": {"e": {"info": {}, "schema": {"type": "object"}}},
    });
    let header = STANDARD.encode(json.to_string());
    let document: PaymentRequired = decode(header.as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&document).unwrap(), json);
    let again: PaymentRequired = decode(encode(&document).unwrap().as_bytes()).unwrap();
    assert_eq!(again, document);
}

/// splitmix64: a small seeded generator, so that a failure names its seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

#[test]
fn mutated_payments_never_panic_and_never_pay_for_something_else() {
    let wallet = Wallet::from_key(&[0x11; 32]).unwrap();
    let facilitator = Address::repeat_byte(0x33);
    let terms = EvmTerms {
        chain_id: 8453,
        asset: Address::repeat_byte(0xfb),
        amount: U256::from(1_000),
        pay_to: Address::repeat_byte(0x22),
    };
    let token = TokenDomain { name: "OpenGradient", version: "1" };
    let offers = [
        PaymentRequirements::upto(&terms, token, facilitator, 300),
        PaymentRequirements::exact_eip3009(&terms, token, 300),
    ];
    let policy = Policy { facilitators: vec![facilitator] };
    let now_secs = 1_800_000_000;
    let challenge = PaymentRequired::new(Resource::default(), offers.to_vec(), "Payment required");
    let mut seeded = Seeded(42);
    for offer in &offers {
        let fresh = Fresh { nonce: U256::from(5), now_secs };
        let payload = client::pay(&challenge, offer, &wallet, fresh).unwrap();
        let original = verify(&payload, offer, &policy, now_secs).unwrap();
        let json = serde_json::to_vec(&payload).unwrap();
        let (mut decoded, mut accepted) = (0, 0);
        for _ in 0..4_000 {
            let mut bytes = json.clone();
            for _ in 0..=seeded.below(3) {
                let at = seeded.below(bytes.len());
                match seeded.below(4) {
                    0 => bytes[at] ^= 1 << seeded.below(8),
                    1 => bytes[at] = b"0123456789abcdefx{}[]\",:"[seeded.below(24)],
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[seeded.below(bytes.len())]),
                }
            }
            let Ok(mutant) = decode::<PaymentPayload>(STANDARD.encode(&bytes).as_bytes()) else {
                continue;
            };
            decoded += 1;
            if let Ok(verified) = verify(&mutant, offer, &policy, now_secs) {
                // A mutation that changes nothing that was signed may pass, and then it is the same payment.
                assert_eq!(verified, original);
                accepted += 1;
            }
        }
        assert!(decoded > 100 && accepted < decoded, "{decoded} decoded, {accepted} accepted");
    }
}

prop_compose! {
    fn any_requirements()(
        scheme in "[a-z]{1,8}", chain_id in any::<u64>(), asset in any::<[u8; 20]>(),
        amount in any::<[u8; 32]>(), pay_to in any::<[u8; 20]>(), timeout in any::<u64>(),
        extra in prop::collection::btree_map("[a-zA-Z]{1,8}", ".{0,12}", 0..4),
    ) -> PaymentRequirements {
        let terms = EvmTerms {
            chain_id, asset: asset.into(), amount: U256::from_be_bytes(amount), pay_to: pay_to.into(),
        };
        let token = TokenDomain { name: "n", version: "v" };
        let mut offer = PaymentRequirements::exact_eip3009(&terms, token, timeout);
        offer.scheme = scheme;
        offer.extra.extend(extra.into_iter().map(|(key, text)| (key, text.into())));
        offer
    }
}

proptest! {
    #[test]
    fn challenges_round_trip(
        accepts in prop::collection::vec(any_requirements(), 0..4), error in ".{0,40}", url in ".{0,40}",
    ) {
        let resource = Resource { url, ..Resource::default() };
        let document = PaymentRequired::new(resource, accepts, &error);
        let again: PaymentRequired = decode(encode(&document).unwrap().as_bytes()).unwrap();
        prop_assert_eq!(&again, &document);
        for offer in &again.accepts {
            prop_assert!(offer.evm().is_ok());
            prop_assert!(offer.matches(offer));
        }
    }

    #[test]
    fn whatever_is_signed_is_recovered(key in any::<[u8; 32]>(), digest in any::<[u8; 32]>()) {
        if let Some(wallet) = Wallet::from_key(&key) {
            let signature = wallet.sign(&digest.into());
            prop_assert_eq!(signature.signer(&digest.into()), Ok(wallet.address()));
            prop_assert_eq!(Signature::parse(&signature.to_bytes()), Ok(signature));
        }
    }

    #[test]
    fn arbitrary_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<PaymentPayload>(&bytes);
        let _ = decode::<PaymentRequired>(STANDARD.encode(&bytes).as_bytes());
        let _ = Signature::parse(&bytes);
    }
}
