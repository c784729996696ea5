//! Every signature and hash domain of the project, in one table.
//!
//! A domain is a byte string that is mixed into what is signed or hashed, so that bytes meant for one purpose
//! can never be taken for another. Names follow `_OG_<ROOM>_<OPERATION>`; a test asserts that no one is a
//! prefix of another. The formats of the official clients carry no domain; they live in modules named `legacy`.

/// Finality certificates: the consensus namespace from which simplex derives its own (`…_FINALIZE` and so on).
pub const CONSENSUS: &[u8] = b"_OG_CONSENSUS_SIMPLEX";

/// Authenticated peer-to-peer handshakes between validators.
pub const P2P: &[u8] = b"_OG_P2P_HANDSHAKE";

/// Proofs of possession of validators' BLS keys.
pub const VALIDATOR_POSSESSION: &[u8] = b"_OG_VALIDATOR_POSSESSION";

/// External AAD of a receipt's COSE_Sign1.
pub const RECEIPT: &[u8] = b"_OG_RECEIPT_SIGN";

/// Prefix of the running hash over the SSE data payloads of a streamed response.
pub const RESPONSE_STREAM: &[u8] = b"_OG_RESPONSE_STREAM";

/// Prefix of the digest of a request body.
pub const REQUEST_BODY: &[u8] = b"_OG_REQUEST_BODY";

/// Prefix of the digest of a response that is one JSON document.
pub const RESPONSE_JSON: &[u8] = b"_OG_RESPONSE_JSON";

/// Prefix of the attested nonce that ties an enclave to its registration.
pub const REGISTRATION: &[u8] = b"_OG_REGISTRATION_BIND";

/// Prefix of the hash that identifies a payment (the nonce that it consumes).
pub const PAYMENT_ID: &[u8] = b"_OG_PAYMENT_ID";

/// First item of the configuration whose hash a genesis header carries.
pub const CHAIN_GENESIS: &[u8] = b"_OG_CHAIN_GENESIS/1";

/// All of them; a new domain is added here in the same commit.
pub const ALL: &[&[u8]] = &[
    CONSENSUS,
    P2P,
    VALIDATOR_POSSESSION,
    RECEIPT,
    RESPONSE_STREAM,
    REQUEST_BODY,
    RESPONSE_JSON,
    REGISTRATION,
    PAYMENT_ID,
    CHAIN_GENESIS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_domain_is_a_prefix_of_another() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(a.starts_with(b"_OG_"));
            for (j, b) in ALL.iter().enumerate() {
                assert!(i == j || !b.starts_with(a), "{a:?} is a prefix of {b:?}");
            }
        }
    }
}
