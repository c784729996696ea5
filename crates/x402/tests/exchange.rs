//! The whole exchange, and every way in which a payment is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use alloy_primitives::{Address, B256, Bytes, U256, address};
use og_x402::client::{self, PayError};
use og_x402::eip712;
use og_x402::extensions::EIP2612_GAS_SPONSORING;
use og_x402::wire::{
    EvmTerms, Members, Permit2Authorization, SchemePayload, TokenDomain, find_matching,
};
use og_x402::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const OPG: Address = address!("0xFbC2051AE2265686a469421b2C5A2D5462FbF5eB");
const PAYEE: Address = address!("0x2222222222222222222222222222222222222222");
const FACILITATOR: Address = address!("0x3333333333333333333333333333333333333333");

fn wallet() -> Wallet {
    Wallet::from_key(&[0x11; 32]).unwrap()
}

fn terms() -> EvmTerms {
    EvmTerms { chain_id: 8453, asset: OPG, amount: U256::from(100_000), pay_to: PAYEE }
}

fn opg() -> TokenDomain<'static> {
    TokenDomain { name: "OpenGradient", version: "1" }
}

fn offers() -> [PaymentRequirements; 3] {
    [
        PaymentRequirements::upto(&terms(), opg(), FACILITATOR, 300),
        PaymentRequirements::exact_permit2(&terms(), opg(), 300),
        PaymentRequirements::exact_eip3009(&terms(), opg(), 300),
    ]
}

fn challenge() -> PaymentRequired {
    let resource = Resource { url: "https://127.0.0.1/v1".to_owned(), ..Resource::default() };
    PaymentRequired::new(resource, offers().to_vec(), "Payment required")
}

fn fresh() -> Fresh {
    Fresh { nonce: U256::from(77), now_secs: NOW }
}

fn policy() -> Policy {
    Policy { facilitators: vec![Address::ZERO, FACILITATOR] }
}

fn payload(offer: usize) -> PaymentPayload {
    client::pay(&challenge(), &offers()[offer], &wallet(), fresh()).unwrap()
}

/// Changes what is signed and signs it again, so that only the change itself can be the reason.
fn resigned(offer: usize, change: impl FnOnce(&mut Permit2Authorization)) -> PaymentPayload {
    let mut payload = payload(offer);
    let SchemePayload::Permit2(signed) = &mut payload.payload else { panic!("not Permit2") };
    change(&mut signed.permit2_authorization);
    let digest = eip712::permit2_digest(&signed.permit2_authorization, 8453);
    signed.signature = wallet().sign(&digest).to_bytes();
    payload
}

fn with_json(offer: usize, change: impl FnOnce(&mut Value)) -> PaymentPayload {
    let mut document = serde_json::to_value(payload(offer)).unwrap();
    change(&mut document);
    serde_json::from_value(document).unwrap()
}

fn refusal(payload: &PaymentPayload, offer: usize) -> InvalidReason {
    verify(payload, &offers()[offer], &policy(), NOW).unwrap_err()
}

#[test]
fn each_scheme_pays_through_the_headers() {
    let header = header::encode(&challenge()).unwrap();
    let challenge: PaymentRequired = header::decode(header.as_bytes()).unwrap();
    for (offer, scheme) in challenge.accepts.iter().zip([
        Scheme::UptoPermit2,
        Scheme::ExactPermit2,
        Scheme::ExactEip3009,
    ]) {
        let sent = client::pay(&challenge, offer, &wallet(), fresh()).unwrap();
        let received: PaymentPayload =
            header::decode(header::encode(&sent).unwrap().as_bytes()).unwrap();
        assert_eq!(received, sent);
        let own = offers();
        let matched = find_matching(&own, &received.accepted).unwrap();
        let verified = verify(&received, matched, &policy(), NOW).unwrap();
        assert_eq!(verified.scheme, scheme);
        assert_eq!((verified.payer, verified.terms), (wallet().address(), terms()));
        assert_eq!(verified.deadline_secs, NOW + 300);
        let keeper = if scheme == Scheme::ExactEip3009 { OPG } else { PERMIT2 };
        assert_eq!(verified.identity.nonce_keeper, keeper);
        assert_eq!(verified.identity.nonce, U256::from(77));
    }
}

#[test]
fn the_official_clients_payload_reads_and_verifies() {
    // As the Python client writes it: all-lower-case address in the echo, "0" as validAfter, v as 0/1 or 27/28.
    let payload = with_json(0, |document| {
        let asset = document["accepted"]["asset"].as_str().unwrap().to_lowercase();
        document["accepted"]["asset"] = json!(asset);
        document["accepted"]["extra"] = json!({});
        document["accepted"]["maxTimeoutSeconds"] = json!(1);
    });
    assert!(offers()[0].matches(&payload.accepted));
    verify(&payload, &offers()[0], &policy(), NOW).unwrap();

    let mut payload = resigned(0, |signed| signed.witness.valid_after = U256::ZERO);
    let SchemePayload::Permit2(signed) = &mut payload.payload else { panic!("not Permit2") };
    let mut bytes = signed.signature.to_vec();
    bytes[64] -= 27;
    signed.signature = bytes.into();
    let verified = verify(&payload, &offers()[0], &policy(), NOW).unwrap();
    assert!(matches!(verified.signature.v(), 27 | 28));
}

#[test]
fn upto_is_refused_with_the_protocols_codes() {
    use InvalidReason as R;
    for (payload, reason) in [
        (with_json(0, |p| p["x402Version"] = json!(1)), R::InvalidX402Version),
        (with_json(0, |p| p["accepted"]["scheme"] = json!("exact")), R::InvalidUptoScheme),
        (with_json(0, |p| p["payload"] = json!({})), R::UnsupportedPayloadType),
        (with_json(0, |p| p["payload"]["authorization"] = json!({})), R::UnsupportedPayloadType),
        (
            with_json(0, |p| p["payload"]["permit2Authorization"]["nonce"] = json!("-1")),
            R::UnsupportedPayloadType,
        ),
        (
            with_json(0, |p| p["payload"]["permit2Authorization"]["nonce"] = json!("1".repeat(79))),
            R::UnsupportedPayloadType,
        ),
        (
            with_json(0, |p| {
                p["payload"]["permit2Authorization"]["permitted"]["amount"] = json!(1);
            }),
            R::UnsupportedPayloadType,
        ),
        (resigned(0, |a| a.witness.facilitator = None), R::UnsupportedPayloadType),
        (payload(2), R::InvalidUptoScheme),
        (with_json(0, |p| p["accepted"]["network"] = json!("eip155:1")), R::UptoNetworkMismatch),
        (resigned(0, |a| a.spender = EXACT_PROXY), R::InvalidPermit2Spender),
        (resigned(0, |a| a.witness.to = FACILITATOR), R::InvalidPermit2Recipient),
        (resigned(0, |a| a.witness.facilitator = Some(PAYEE)), R::UptoFacilitatorMismatch),
        (resigned(0, |a| a.deadline = U256::from(NOW + 5)), R::Permit2DeadlineExpired),
        (resigned(0, |a| a.witness.valid_after = U256::from(NOW + 1)), R::Permit2NotYetValid),
        (resigned(0, |a| a.permitted.amount = U256::from(100_001)), R::Permit2AmountMismatch),
        (resigned(0, |a| a.permitted.amount = U256::from(99_999)), R::Permit2AmountMismatch),
        (resigned(0, |a| a.permitted.token = PAYEE), R::Permit2TokenMismatch),
        (resigned(0, |a| a.from = PAYEE), R::InvalidPermit2Signature),
        (with_json(0, |p| p["payload"]["signature"] = json!("0x")), R::InvalidPermit2Signature),
        (
            with_json(0, |p| {
                let wrapped = format!("0x{}{}", "00".repeat(96), "6492".repeat(16));
                p["payload"]["signature"] = json!(wrapped);
            }),
            R::UnsupportedContractWallet,
        ),
    ] {
        assert_eq!(refusal(&payload, 0), reason, "{}", reason.code());
    }
    assert!(
        verify(&resigned(0, |a| a.deadline = U256::from(NOW + 6)), &offers()[0], &policy(), NOW)
            .is_ok()
    );
    let verified = resigned(0, |a| a.deadline = U256::MAX);
    assert_eq!(verify(&verified, &offers()[0], &policy(), NOW).unwrap().deadline_secs, u64::MAX);
    assert_eq!(
        verify(&payload(0), &offers()[0], &Policy::default(), NOW),
        Err(R::UptoFacilitatorMismatch)
    );
    let mut unknown = offers()[0].clone();
    unknown.scheme = "batch".to_owned();
    assert_eq!(verify(&payload(0), &unknown, &policy(), NOW), Err(R::UnsupportedScheme));
}

#[test]
fn the_first_reason_in_the_protocols_order_wins() {
    use InvalidReason as R;
    // Everything wrong at once; repaired one by one in the protocol's order.
    let mut payload = resigned(0, |a| {
        a.spender = PAYEE;
        a.witness.to = OPG;
        a.witness.facilitator = Some(OPG);
        a.deadline = U256::ZERO;
        a.witness.valid_after = U256::MAX;
        a.permitted.amount = U256::ZERO;
        a.permitted.token = PAYEE;
        a.from = PAYEE;
    });
    payload.x402_version = 1;
    payload.accepted.scheme = "exact".to_owned();
    payload.accepted.network = "eip155:1".to_owned();
    let steps: [(R, Repair); 11] = [
        (R::InvalidX402Version, |p| p.x402_version = 2),
        (R::InvalidUptoScheme, |p| p.accepted.scheme = "upto".to_owned()),
        (R::UptoNetworkMismatch, |p| p.accepted.network = "eip155:8453".to_owned()),
        (R::InvalidPermit2Spender, |p| permit(p).spender = UPTO_PROXY),
        (R::InvalidPermit2Recipient, |p| permit(p).witness.to = PAYEE),
        (R::UptoFacilitatorMismatch, |p| permit(p).witness.facilitator = Some(FACILITATOR)),
        (R::Permit2DeadlineExpired, |p| permit(p).deadline = U256::from(NOW + 300)),
        (R::Permit2NotYetValid, |p| permit(p).witness.valid_after = U256::from(NOW)),
        (R::Permit2AmountMismatch, |p| permit(p).permitted.amount = U256::from(100_000)),
        (R::Permit2TokenMismatch, |p| permit(p).permitted.token = OPG),
        (R::InvalidPermit2Signature, |p| {
            permit(p).from = wallet().address();
            let digest = eip712::permit2_digest(permit(p), 8453);
            let SchemePayload::Permit2(signed) = &mut p.payload else { panic!("not Permit2") };
            signed.signature = wallet().sign(&digest).to_bytes();
        }),
    ];
    for (reason, repair) in steps {
        assert_eq!(refusal(&payload, 0), reason);
        repair(&mut payload);
    }
    verify(&payload, &offers()[0], &policy(), NOW).unwrap();
}

type Repair = fn(&mut PaymentPayload);

fn permit(payload: &mut PaymentPayload) -> &mut Permit2Authorization {
    let SchemePayload::Permit2(signed) = &mut payload.payload else { panic!("not Permit2") };
    &mut signed.permit2_authorization
}

#[test]
fn exact_is_refused_with_the_protocols_codes() {
    use InvalidReason as R;
    for (payload, reason) in [
        (payload(0), R::InvalidExactScheme),
        (payload(2), R::UnsupportedPayloadType),
        (resigned(1, |a| a.witness.facilitator = Some(FACILITATOR)), R::UnsupportedPayloadType),
        (with_json(1, |p| p["accepted"]["network"] = json!("eip155:1")), R::ExactNetworkMismatch),
        (resigned(1, |a| a.spender = UPTO_PROXY), R::InvalidPermit2Spender),
        (resigned(1, |a| a.witness.to = FACILITATOR), R::InvalidPermit2Recipient),
        (resigned(1, |a| a.deadline = U256::from(NOW)), R::Permit2DeadlineExpired),
        (resigned(1, |a| a.permitted.amount = U256::ZERO), R::Permit2AmountMismatch),
    ] {
        assert_eq!(refusal(&payload, 1), reason, "{}", reason.code());
    }
    let signed_by_client = |change: fn(&mut wire::Eip3009Authorization)| {
        let mut payload = payload(2);
        let SchemePayload::Eip3009(signed) = &mut payload.payload else { panic!("not EIP-3009") };
        change(&mut signed.authorization);
        let token = eip712::TokenContract {
            name: "OpenGradient",
            version: "1",
            chain_id: 8453,
            address: OPG,
        };
        let digest = eip712::eip3009_digest(&signed.authorization, &token);
        signed.signature = wallet().sign(&digest).to_bytes();
        payload
    };
    for (payload, reason) in [
        (payload(0), R::InvalidExactScheme),
        (payload(1), R::UnsupportedPayloadType),
        (with_json(2, |p| p["accepted"]["network"] = json!("eip155:1")), R::ExactNetworkMismatch),
        (signed_by_client(|a| a.to = OPG), R::ExactRecipientMismatch),
        (signed_by_client(|a| a.from = OPG), R::ExactSignature),
        (with_json(2, |p| p["payload"]["signature"] = json!("0x00")), R::ExactSignature),
        (
            with_json(2, |p| {
                let wrapped = format!("0x{}{}", "00".repeat(96), "6492".repeat(16));
                p["payload"]["signature"] = json!(wrapped);
            }),
            R::ExactUndeployedSmartWallet,
        ),
        (signed_by_client(|a| a.value = U256::from(100_001)), R::ExactAuthorizationValue),
        (signed_by_client(|a| a.valid_before = U256::from(NOW + 5)), R::ExactValidBefore),
        (signed_by_client(|a| a.valid_after = U256::from(NOW + 1)), R::ExactValidAfter),
    ] {
        assert_eq!(refusal(&payload, 2), reason, "{}", reason.code());
    }
    let mut nameless = offers()[2].clone();
    nameless.extra.remove("name");
    assert_eq!(verify(&payload(2), &nameless, &policy(), NOW), Err(R::ExactMissingEip712Domain));
}

#[test]
fn the_malleable_twin_of_a_signature_is_refused() {
    let mut payload = payload(0);
    let SchemePayload::Permit2(signed) = &mut payload.payload else { panic!("not Permit2") };
    let order: U256 =
        "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
    let mut bytes = signed.signature.to_vec();
    let twin = order - U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&twin.to_be_bytes::<32>());
    bytes[64] ^= 27 ^ 28;
    assert_eq!(Signature::parse(&bytes), Err(signature::SignatureError::HighS));
    signed.signature = bytes.into();
    assert_eq!(refusal(&payload, 0), InvalidReason::InvalidPermit2Signature);
}

#[test]
fn signatures_that_are_none_are_named() {
    use signature::SignatureError as E;
    let good = wallet().sign(&B256::ZERO).to_bytes();
    let with = |range: std::ops::Range<usize>, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[range].fill(byte);
        Signature::parse(&bytes)
    };
    assert_eq!(Signature::parse(&good[..64]), Err(E::Length { len: 64 }));
    assert_eq!(with(64..65, 29), Err(E::RecoveryByte { v: 29 }));
    assert_eq!(with(0..32, 0), Err(E::Scalar));
    assert_eq!(with(32..64, 0xff), Err(E::Scalar));
    assert!(Wallet::from_key(&[0; 32]).is_none());
    assert!(Wallet::from_key(&[0xff; 32]).is_none());
    assert!(!format!("{:?}", wallet()).contains("11111111"));
}

#[test]
fn sponsored_permits_are_checked_and_echoes_are_not_permits() {
    use InvalidReason as R;
    let info = json!({
        "from": wallet().address().to_string(), "asset": OPG.to_string(),
        "spender": PERMIT2.to_string(), "amount": "100000", "nonce": "0",
        "deadline": (NOW + 300).to_string(), "signature": Bytes::from(vec![1; 65]).to_string(),
        "version": "1",
    });
    let with_info = |change: fn(&mut Value)| {
        let mut info = info.clone();
        change(&mut info);
        let mut payload = payload(0);
        payload.extensions =
            Some(Members::from([(EIP2612_GAS_SPONSORING.to_owned(), json!({ "info": info }))]));
        verify(&payload, &offers()[0], &policy(), NOW).map(|verified| verified.sponsored_permit)
    };
    assert_eq!(with_info(|_| ()).unwrap().unwrap().permit.value, U256::from(100_000));
    assert_eq!(
        with_info(|info| info["signature"] = json!("0x12")),
        Err(R::InvalidEip2612ExtensionFormat)
    );
    assert_eq!(with_info(|info| info["nonce"] = json!(0)), Err(R::InvalidEip2612ExtensionFormat));
    assert_eq!(
        with_info(|info| info["from"] = json!(OPG.to_string())),
        Err(R::Eip2612FromMismatch)
    );
    assert_eq!(
        with_info(|info| info["asset"] = json!(PERMIT2.to_string())),
        Err(R::Eip2612AssetMismatch)
    );
    assert_eq!(
        with_info(|info| info["spender"] = json!(OPG.to_string())),
        Err(R::Eip2612SpenderNotPermit2)
    );
    assert_eq!(with_info(|info| info["deadline"] = json!("5")), Err(R::Eip2612DeadlineExpired));
    assert_eq!(with_info(|info| info["amount"] = json!("1")), Err(R::Permit2612AmountMismatch));
    assert_eq!(with_info(|info| drop(info.as_object_mut().unwrap().remove("signature"))), Ok(None));
    let mut echoed = payload(0);
    echoed.extensions = Some(extensions::eip2612_declaration());
    echoed.extensions.as_mut().unwrap().insert("erc20ApprovalGasSponsoring".to_owned(), json!(1));
    assert!(verify(&echoed, &offers()[0], &policy(), NOW).is_ok());
}

#[test]
fn offers_match_by_meaning_and_by_nothing_less() {
    let offer = &offers()[0];
    let changed = |change: fn(&mut PaymentRequirements)| {
        let mut accepted = offer.clone();
        change(&mut accepted);
        offer.matches(&accepted)
    };
    assert!(changed(|a| a.asset = a.asset.to_lowercase()));
    assert!(changed(|a| a.pay_to = a.pay_to.to_lowercase()));
    assert!(changed(|a| a.extra.clear()));
    assert!(changed(|a| a.max_timeout_seconds = 1));
    assert!(!changed(|a| a.scheme = "exact".to_owned()));
    assert!(!changed(|a| a.network = "eip155:10740".to_owned()));
    assert!(!changed(|a| a.amount = "100001".to_owned()));
    assert!(!changed(|a| a.amount = "0100000".to_owned()));
    assert!(!changed(|a| a.asset = PAYEE.to_string()));
    assert!(!changed(|a| a.pay_to = OPG.to_string()));
    assert!(!changed(|a| a.pay_to = "cafe".to_owned()));
}

#[test]
fn clients_pay_the_first_offer_within_their_limits() {
    let mut challenge = challenge();
    let mut foreign = offers()[0].clone();
    foreign.network = "solana:mainnet".to_owned();
    challenge.accepts.insert(0, foreign);
    let limits =
        |max: u64| SpendLimits { per_payment_max: [((8453, OPG), U256::from(max))].into() };
    assert_eq!(client::choose(&challenge, &limits(100_000)).unwrap(), &offers()[0]);
    assert_eq!(
        client::choose(&challenge, &limits(99_999)),
        Err(PayError::AboveLimit {
            amount: U256::from(100_000),
            asset: OPG,
            max: U256::from(99_999)
        })
    );
    assert_eq!(
        client::choose(&challenge, &SpendLimits::default()),
        Err(PayError::NoOffer { offers: 4 })
    );
    challenge.x402_version = 1;
    assert_eq!(client::choose(&challenge, &limits(1)), Err(PayError::Version { version: 1 }));
    let authorized = |change: fn(&mut PaymentRequirements), offer: usize| {
        let mut offer = offers()[offer].clone();
        change(&mut offer);
        client::authorize(&offer, &wallet(), fresh()).unwrap_err()
    };
    assert_eq!(authorized(|o| o.extra.clear(), 0), PayError::MissingFacilitator);
    assert_eq!(authorized(|o| o.extra.clear(), 2), PayError::MissingTokenDomain);
    assert_eq!(
        authorized(|o| o.scheme = "batch".to_owned(), 2),
        PayError::Scheme { scheme: "batch".to_owned() }
    );
    assert_eq!(
        authorized(|o| o.network = "eip155:x".to_owned(), 0),
        PayError::Terms(wire::TermsError::Network)
    );
}

#[test]
fn permits_that_share_a_nonce_are_one_payment() {
    let id = |payload: &PaymentPayload| {
        verify(payload, &offers()[0], &policy(), NOW).unwrap().identity.id()
    };
    let first = id(&payload(0));
    assert_eq!(first, id(&resigned(0, |a| a.deadline = U256::from(NOW + 100))));
    assert_ne!(first, id(&resigned(0, |a| a.nonce = U256::from(78))));
    assert_eq!(first.to_string().parse::<PaymentId>().unwrap(), first);
}

#[test]
fn codes_are_unique() {
    let codes: std::collections::BTreeSet<_> =
        InvalidReason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), InvalidReason::ALL.len());
    assert_eq!(InvalidReason::PaymentAlreadyUsed.to_string(), "payment_already_used");
}
