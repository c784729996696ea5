//! The Rust interfaces say what the committed artifacts say.

use std::collections::BTreeSet;

use alloy_primitives::{B256, hex, keccak256};
use alloy_sol_types::{SolEvent, SolEventInterface, SolInterface};
use og_contracts::artifacts::Contract;
use og_contracts::{
    IERC20Permit3009, IInferenceSettlementRelay, ITEEInferenceVerifier, ITEERegistry,
    IX402ExactPermit2Proxy, IX402UptoPermit2Proxy,
};
use serde_json::Value;

/// `name(type,…)` of an ABI entry, tuples spelled out.
fn signature(entry: &Value) -> String {
    fn type_of(parameter: &Value) -> String {
        let name = parameter["type"].as_str().expect("a type");
        match name.strip_prefix("tuple") {
            Some(suffix) => format!("({}){suffix}", types_of(&parameter["components"])),
            None => name.to_owned(),
        }
    }
    fn types_of(parameters: &Value) -> String {
        let types: Vec<_> = parameters.as_array().expect("a list").iter().map(type_of).collect();
        types.join(",")
    }
    format!("{}({})", entry["name"].as_str().expect("a name"), types_of(&entry["inputs"]))
}

/// Hashes of all signatures of one kind.
fn hashes(contracts: &[Contract], kind: &str) -> BTreeSet<B256> {
    contracts
        .iter()
        .flat_map(|contract| {
            let artifact: Value = serde_json::from_str(contract.json()).expect("committed");
            let entries = artifact["abi"].as_array().expect("an ABI").clone();
            entries
                .into_iter()
                .filter(|entry| entry["type"] == kind)
                .map(|entry| keccak256(signature(&entry)))
        })
        .collect()
}

fn selectors(contracts: &[Contract], kind: &str) -> BTreeSet<[u8; 4]> {
    hashes(contracts, kind).iter().map(|hash| [hash[0], hash[1], hash[2], hash[3]]).collect()
}

#[track_caller]
fn interface_is_of<Calls: SolInterface, Errors: SolInterface>(contracts: &[Contract]) {
    let there = selectors(contracts, "function");
    for selector in Calls::selectors() {
        assert!(
            there.contains(&selector),
            "{} has no function {}",
            contracts[0].name(),
            hex::encode(selector)
        );
    }
    let there = selectors(contracts, "error");
    for selector in Errors::selectors() {
        assert!(
            there.contains(&selector),
            "{} has no error {}",
            contracts[0].name(),
            hex::encode(selector)
        );
    }
}

#[test]
fn every_selector_of_the_interfaces_is_in_the_artifacts() {
    use og_contracts::abi;
    let relay = [Contract::InferenceSettlementRelay];
    interface_is_of::<ITEERegistry::ITEERegistryCalls, ITEERegistry::ITEERegistryErrors>(&[
        Contract::TeeRegistry,
    ]);
    interface_is_of::<
        ITEEInferenceVerifier::ITEEInferenceVerifierCalls,
        ITEEInferenceVerifier::ITEEInferenceVerifierErrors,
    >(&[Contract::TeeBatchVerifier]);
    interface_is_of::<
        IInferenceSettlementRelay::IInferenceSettlementRelayCalls,
        IInferenceSettlementRelay::IInferenceSettlementRelayErrors,
    >(&relay);
    interface_is_of::<
        IERC20Permit3009::IERC20Permit3009Calls,
        IERC20Permit3009::IERC20Permit3009Errors,
    >(&[Contract::UsdCoin, Contract::OpenGradientToken]);
    interface_is_of::<
        abi::IX402ExactPermit2Proxy::IX402ExactPermit2ProxyCalls,
        IX402ExactPermit2Proxy::IX402ExactPermit2ProxyErrors,
    >(&[Contract::X402ExactPermit2Proxy]);
    interface_is_of::<
        abi::IX402UptoPermit2Proxy::IX402UptoPermit2ProxyCalls,
        IX402UptoPermit2Proxy::IX402UptoPermit2ProxyErrors,
    >(&[Contract::X402UptoPermit2Proxy]);
}

#[track_caller]
fn events_are_of<Events: SolEventInterface>(topics: &[B256], contracts: &[Contract]) {
    assert_eq!(
        topics.len(),
        Events::COUNT,
        "{}: a topic of the interface is not tested",
        contracts[0].name()
    );
    let there = hashes(contracts, "event");
    for topic in topics {
        assert!(there.contains(topic), "{} has no event {topic}", contracts[0].name());
    }
}

#[test]
fn every_topic_of_the_interfaces_is_in_the_artifacts() {
    use IERC20Permit3009 as token;
    use IInferenceSettlementRelay as relay;
    use ITEERegistry as registry;
    events_are_of::<registry::ITEERegistryEvents>(
        &[
            registry::TEETypeAdded::SIGNATURE_HASH,
            registry::PCRApproved::SIGNATURE_HASH,
            registry::PCRRevoked::SIGNATURE_HASH,
            registry::TEERegistered::SIGNATURE_HASH,
            registry::TEERecorded::SIGNATURE_HASH,
            registry::TEEDisabled::SIGNATURE_HASH,
            registry::TEEEnabled::SIGNATURE_HASH,
            registry::TEEBanned::SIGNATURE_HASH,
            registry::TEEUnbanned::SIGNATURE_HASH,
            registry::AWSCertificateUpdated::SIGNATURE_HASH,
            registry::HeartbeatReceived::SIGNATURE_HASH,
            registry::HeartbeatMaxAgeUpdated::SIGNATURE_HASH,
            registry::RoleGranted::SIGNATURE_HASH,
            registry::RoleRevoked::SIGNATURE_HASH,
        ],
        &[Contract::TeeRegistry],
    );
    events_are_of::<relay::IInferenceSettlementRelayEvents>(
        &[
            relay::BatchSettlement::SIGNATURE_HASH,
            relay::IndividualSettlement::SIGNATURE_HASH,
            relay::VerifiedBatchSettlement::SIGNATURE_HASH,
            relay::ReceiptSettled::SIGNATURE_HASH,
        ],
        &[Contract::InferenceSettlementRelay],
    );
    events_are_of::<token::IERC20Permit3009Events>(
        &[
            token::Transfer::SIGNATURE_HASH,
            token::Approval::SIGNATURE_HASH,
            token::AuthorizationUsed::SIGNATURE_HASH,
            token::AuthorizationCanceled::SIGNATURE_HASH,
        ],
        &[Contract::UsdCoin, Contract::OpenGradientToken],
    );
}

/// Selectors, topics and error codes that existing clients have compiled in.
#[test]
fn the_registry_keeps_the_legacy_abi() {
    let registry = [Contract::TeeRegistry];
    let functions = selectors(&registry, "function");
    for selector in [
        "43ed3274", "cbdfc4e0", "4c4c8e8b", "a041ff51", "15c9bdb4", "17883717", "005ae7cf",
        "42830ad8", "5c1090b2", "2f2ff15d", "d547741f", "36568abe", "e10a2ea4", "971cfbf1",
        "d6741a42", "9831ced5", "2068b3db", "476cb030", "5766275a", "418b207d", "ccdf0493",
        "63b86b89", "4b6014da", "b82644b7", "e44cc482", "927d3c95", "a3bf31f1", "2cbe7552",
        "f33d2c00", "08c84e70", "3c1a88b0", "a217fddf", "87267aca", "f44a0780", "91d14854",
        "248a9ca3", "01ffc9a7", "abbf8f6a",
    ] {
        let bytes: [u8; 4] = hex::decode(selector).expect("hex").try_into().expect("four bytes");
        assert!(functions.contains(&bytes), "function {selector}");
    }
    let errors = selectors(&registry, "error");
    for selector in [
        "095faf73", "04fcbec8", "5d672da7", "6c2ebf80", "7ecd6d71", "1346e439", "f6523b65",
        "a2e39240", "98b31e6f", "06d1f25a", "523bf9a7", "45576abb", "39f8a706", "0c57bc2c",
        "e2517d3f", "6697b232",
    ] {
        let bytes: [u8; 4] = hex::decode(selector).expect("hex").try_into().expect("four bytes");
        assert!(errors.contains(&bytes), "error {selector}");
    }
    let topics = hashes(&registry, "event");
    for topic in [
        "ed0161664cf318441e585cccad9fa9fc770298b648a49635dda84ac6f0adc908",
        "98c6d69cba0181c4e436357d22ac56e02ec472c03f04df0fbf89d1bb614af2fe",
        "d5a6741f8bbaee4cc3ea05953ea04c6a1863ce4c66a52da653dd0a315f84c2fb",
        "97d0af70a4d2c616e9c1093d5f57c8b31b3a7d824f1d335e5d5416402ec14931",
        "01c235337ed5406ee8cebb3f299d60f237a2837430f8a14fbc81f94ce50236b6",
        "cfe7e61b35fbf35c6b0d5c7ebe6feb619ab832dc476c4a02dbdc041fb92b5ca6",
        "378c4547bd8b346276ae1db9e298d984a43bd8788ad795e7a141ba069045f4cb",
        "3cf0bf7708060bf073b6ddb921eef0485b3eb9da828e0ed751fa6582ef337f57",
        "2f8788117e7eff1d82e926ec794901d17c78024a50270940304540a733656f0d",
        "f6391f5c32d9c69d2a47ea670b442974b53935d1edc7fd64eb21e047a839171b",
        "bd79b86ffe0ab8e8776151514217cd7cacd52c909f66475c3af44e129f0b00ff",
    ] {
        assert!(topics.contains(&topic.parse::<B256>().expect("hex")), "event {topic}");
    }
}

#[test]
fn verifier_and_relay_keep_the_legacy_abi() {
    let both = [Contract::TeeBatchVerifier, Contract::InferenceSettlementRelay];
    let functions = selectors(&both, "function");
    for selector in [
        "a91ee0dc", "c206baa3", "58db61a8", "7b103999", "d88817df", "b348303f", "810f2337",
        "1b243ae6", "90480ad1", "4bc935d7",
    ] {
        let bytes: [u8; 4] = hex::decode(selector).expect("hex").try_into().expect("four bytes");
        assert!(functions.contains(&bytes), "function {selector}");
    }
    let topics = hashes(&both, "event");
    for topic in [
        "482b97c53e48ffa324a976e2738053e9aff6eee04d8aac63b10e19411d869b82",
        "c2aff8d8a10a4543baabf39bd9ff45e7fc3881d19098df350a3b7f339e911127",
        "74e71a1981c03bd0c36f3b1227f3ee2a34dca5d6fef25c4b2787e033ab60b782",
    ] {
        assert!(topics.contains(&topic.parse::<B256>().expect("hex")), "event {topic}");
    }
    assert!(selectors(&both, "error").contains(&[0x7b, 0xfd, 0x2e, 0x83]));
}
