//! The shared client vectors: type hashes, domain separators, struct hashes, digests and signatures that the
//! official clients produce.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use std::path::PathBuf;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use og_x402::eip712::{self, Permit, TokenContract};
use og_x402::wire::{Permit2Authorization, TokenPermissions, Witness};
use og_x402::{EXACT_PROXY, Signature, UPTO_PROXY, Wallet};
use serde_json::Value;

fn shared_vectors(file: &str) -> Option<Value> {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join(file)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

fn parsed<T: std::str::FromStr>(value: &Value) -> T
where
    T::Err: std::fmt::Debug,
{
    value.as_str().unwrap().parse().unwrap()
}

fn number(value: &Value) -> U256 {
    U256::from(value.as_u64().unwrap())
}

fn permit2(message: &Value, owner: Address) -> Permit2Authorization {
    let witness = &message["witness"];
    Permit2Authorization {
        from: owner,
        permitted: TokenPermissions {
            token: parsed(&message["permitted"]["token"]),
            amount: number(&message["permitted"]["amount"]),
        },
        spender: parsed(&message["spender"]),
        nonce: number(&message["nonce"]),
        deadline: number(&message["deadline"]),
        witness: Witness {
            to: parsed(&witness["to"]),
            facilitator: witness.get("facilitator").map(parsed),
            valid_after: number(&witness["validAfter"]),
        },
    }
}

#[test]
fn digests_and_signatures_equal_the_official_clients() {
    let Some(vectors) = shared_vectors("clients.json") else {
        println!("SKIPPED x402 client vectors: no shared vectors");
        return;
    };
    let wallet = Wallet::from_key(&[0x11; 32]).unwrap();
    let mut count = 0;
    for (name, proxy) in [
        ("upto_permit2_8453", UPTO_PROXY),
        ("upto_permit2_10740", UPTO_PROXY),
        ("exact_permit2_8453", EXACT_PROXY),
    ] {
        let vector = &vectors[name];
        let authorization = permit2(&vector["message"], parsed(&vector["signer"]));
        let chain_id = vector["domain"]["chainId"].as_u64().unwrap();
        assert_eq!(authorization.spender, proxy, "{name}");
        assert_eq!(wallet.address(), parsed::<Address>(&vector["signer"]), "{name}");
        assert_eq!(
            eip712::permit2_domain_separator(chain_id),
            parsed::<B256>(&vector["domainSeparator"]),
            "{name}"
        );
        assert_eq!(
            eip712::permit2_struct_hash(&authorization),
            parsed::<B256>(&vector["structHash"]),
            "{name}"
        );
        let digest = eip712::permit2_digest(&authorization, chain_id);
        assert_eq!(digest, parsed::<B256>(&vector["digest"]), "{name}");
        let signature = parsed::<Bytes>(&vector["sig"]);
        assert_eq!(wallet.sign(&digest).to_bytes(), signature, "{name}");
        assert_eq!(Signature::parse(&signature).unwrap().signer(&digest), Ok(wallet.address()));
        count += 1;
    }

    let vector = &vectors["eip2612_opg_8453"];
    let (domain, message) = (&vector["domain"], &vector["message"]);
    let token = TokenContract {
        name: domain["name"].as_str().unwrap(),
        version: domain["version"].as_str().unwrap(),
        chain_id: domain["chainId"].as_u64().unwrap(),
        address: parsed(&domain["verifyingContract"]),
    };
    let permit = Permit {
        owner: parsed(&message["owner"]),
        spender: parsed(&message["spender"]),
        value: number(&message["value"]),
        nonce: number(&message["nonce"]),
        deadline: number(&message["deadline"]),
    };
    assert_eq!(eip712::token_domain_separator(&token), parsed::<B256>(&vector["domainSeparator"]));
    let digest = eip712::eip2612_digest(&permit, &token);
    assert_eq!(digest, parsed::<B256>(&vector["digest"]));
    assert_eq!(wallet.sign(&digest).to_bytes(), parsed::<Bytes>(&vector["sig"]));
    count += 1;

    for (table, own) in [
        ("typehash_upto", eip712::UPTO_TRANSFER_TYPE),
        ("typehash_exact", eip712::EXACT_TRANSFER_TYPE),
        ("domain_type", eip712::PERMIT2_DOMAIN_TYPE),
    ] {
        for (type_string, hash) in vectors[table].as_object().unwrap() {
            assert_eq!(type_string, own, "{table}");
            assert_eq!(keccak256(own), parsed::<B256>(hash), "{table}");
            count += 1;
        }
    }
    println!("VECTORS clients.json {count}");
}
