//! What storage of the registry says, for whoever holds a proof of it.
//!
//! Two slots are enough for one enclave: [`record_slot`] holds the hash of the [`TeeRecord`], which never
//! changes, and [`standing_slot`] the packed [`Standing`], which does.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use og_primitives::{TeeId, domain};

use crate::abi::ITEERegistry::TEERecord;
use crate::storage::mapping_slot;

/// Everything about an enclave that never changes, as the registry hashes it.
pub type TeeRecord = TEERecord;

/// Slot of the mapping `recordHash`.
const RECORD_HASH_SLOT: u64 = 12;
/// Slot of the mapping from enclave to [`Standing`].
const STANDING_SLOT: u64 = 13;

/// Slot that holds the hash of an enclave's record.
pub fn record_slot(tee_id: TeeId) -> B256 {
    mapping_slot(tee_id.0, U256::from(RECORD_HASH_SLOT)).into()
}

/// Slot that holds an enclave's standing.
pub fn standing_slot(tee_id: TeeId) -> B256 {
    mapping_slot(tee_id.0, U256::from(STANDING_SLOT)).into()
}

/// The value at [`record_slot`]: keccak256(abi.encode(record)).
pub fn record_hash(record: &TeeRecord) -> B256 {
    keccak256(record.abi_encode())
}

/// The word at [`standing_slot`]. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Begin of the current period of good standing.
    pub enabled_at: u64,
    /// Signed time of the newest heartbeat; 0 before the first.
    pub last_signed_heartbeat: u64,
    /// From this time on the enclave's signatures are void; 0 when its key is not in doubt.
    pub compromised_since: u64,
    /// Revocations of the measurement that had happened at `enabled_at`.
    pub pcr_epoch: u32,
    /// Losses of the owner's operator role that had happened at `enabled_at`.
    pub operator_epoch: u32,
    /// Switched off by an admin.
    pub banned: bool,
}

impl Standing {
    /// Unpacks the storage word (Solidity packs from the lowest byte up).
    pub fn from_word(word: B256) -> Self {
        let word = U256::from_be_bytes(word.0);
        let field = |offset: usize, bits: usize| -> u64 {
            ((word >> offset) & ((U256::ONE << bits) - U256::ONE)).saturating_to()
        };
        let small = |offset: usize| u32::try_from(field(offset, 32)).unwrap_or(u32::MAX);
        Self {
            enabled_at: field(0, 40),
            last_signed_heartbeat: field(40, 40),
            compromised_since: field(80, 40),
            pcr_epoch: small(120),
            operator_epoch: small(152),
            banned: field(184, 8) != 0,
        }
    }
}

/// What an enclave is registered with; the registry requires its hash as the attested nonce.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration<'a> {
    /// The account that will send the registration.
    pub owner: Address,
    /// Chain of the registry.
    pub chain_id: u64,
    /// Hash of block 0 of that chain.
    pub genesis_hash: B256,
    /// The registry contract.
    pub registry: Address,
    /// Where the enclave's clients pay.
    pub pay_to: Address,
    /// Where its clients connect.
    pub endpoint: &'a str,
    /// Type under which it registers (0: LLM proxy).
    pub tee_type: u8,
}

/// The nonce that an enclave must put into its attestation: keccak256(abi.encode("_OG_REGISTRATION_BIND", owner,
/// chain id, genesis hash, registry, pay-to, endpoint, type)).
pub fn registration_nonce(registration: &Registration<'_>) -> B256 {
    let Registration { owner, chain_id, genesis_hash, registry, pay_to, endpoint, tee_type } =
        registration;
    keccak256(
        (
            Bytes::from_static(domain::REGISTRATION),
            *owner,
            U256::from(*chain_id),
            *genesis_hash,
            *registry,
            *pay_to,
            (*endpoint).to_owned(),
            U256::from(*tee_type),
        )
            .abi_encode_params(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::Contract;

    #[test]
    fn the_slots_are_those_of_the_artifact() {
        let artifact = Contract::TeeRegistry.artifact().expect("committed");
        assert_eq!(artifact.slot("recordHash").expect("exists"), U256::from(RECORD_HASH_SLOT));
        assert_eq!(artifact.slot("_standing").expect("exists"), U256::from(STANDING_SLOT));
        // The layout that existing tools know.
        for (label, slot) in [
            ("_roles", 0),
            ("awsRootCertificate", 1),
            ("heartbeatMaxAge", 2),
            ("teeTypes", 3),
            ("_teeTypeList", 4),
            ("pcrRecords", 5),
            ("_pcrList", 6),
            ("_tees", 7),
            ("_enabledTEEList", 8),
            ("_enabledTEEIndex", 9),
            ("_teesByType", 10),
            ("_teesByOwner", 11),
        ] {
            assert_eq!(artifact.slot(label).expect("exists"), U256::from(slot), "{label}");
        }
    }

    #[test]
    fn a_nonce_changes_with_every_term() {
        let base = Registration {
            owner: Address::repeat_byte(1),
            chain_id: 10_740,
            genesis_hash: B256::repeat_byte(2),
            registry: Address::repeat_byte(3),
            pay_to: Address::repeat_byte(4),
            endpoint: "https://127.0.0.1:1",
            tee_type: 0,
        };
        let others = [
            Registration { owner: Address::repeat_byte(9), ..base.clone() },
            Registration { chain_id: 8_453, ..base.clone() },
            Registration { genesis_hash: B256::repeat_byte(9), ..base.clone() },
            Registration { registry: Address::repeat_byte(9), ..base.clone() },
            Registration { pay_to: Address::repeat_byte(9), ..base.clone() },
            Registration { endpoint: "https://127.0.0.1:2", ..base.clone() },
            Registration { tee_type: 1, ..base.clone() },
        ];
        for other in &others {
            assert_ne!(registration_nonce(other), registration_nonce(&base), "{other:?}");
        }
    }

    #[test]
    fn a_standing_unpacks_from_the_lowest_byte() {
        let word: U256 = U256::from(5)
            | (U256::from(6) << 40)
            | (U256::from(7) << 80)
            | (U256::from(8) << 120)
            | (U256::from(9) << 152)
            | (U256::ONE << 184);
        assert_eq!(
            Standing::from_word(word.into()),
            Standing {
                enabled_at: 5,
                last_signed_heartbeat: 6,
                compromised_since: 7,
                pcr_epoch: 8,
                operator_epoch: 9,
                banned: true,
            }
        );
        assert_eq!(Standing::from_word(B256::ZERO), Standing::default());
    }
}
