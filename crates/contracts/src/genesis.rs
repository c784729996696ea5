//! The accounts of block 0 of both chains.
//!
//! Code comes from the artifacts; storage is written as the constructors and the first administrative calls
//! would have written it, so the networks need no set-up transactions.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, bytes, keccak256};
use serde::{Deserialize, Serialize};

use crate::artifacts::{Artifact, Contract};
use crate::storage::{Storage, Writer, address_key, data_slot, mapping_slot, number_key};
use crate::{Error, addresses};

/// Accounts by address.
pub type Alloc = BTreeMap<Address, GenesisAccount>;

/// One account of block 0.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Transactions sent; 1 for contracts (EIP-161).
    #[serde(default)]
    pub nonce: u64,
    /// Native coin, wei.
    #[serde(default)]
    pub balance: U256,
    /// Runtime code; empty for ordinary accounts.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub code: Bytes,
    /// Words that are not zero.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: Storage,
}

fn is_empty(code: &Bytes) -> bool {
    code.0.is_empty()
}

/// A code measurement that the registry accepts from the start.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedMeasurement {
    /// Type it is approved for.
    pub tee_type: u8,
    /// keccak256(PCR0 || PCR1 || PCR2).
    pub pcr_hash: B256,
    /// Human name of the build.
    pub version: String,
}

/// What an account owns at block 0.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Funding {
    /// The account.
    pub address: Address,
    /// Native coin, wei, on each chain.
    pub native: U256,
    /// OPG, base units (18 decimals), on the payment chain.
    pub opg: U256,
    /// USDC, base units (6 decimals), on the payment chain.
    pub usdc: U256,
    /// Whether Permit2 may spend both tokens without limit.
    pub permit2_allowance: bool,
}

/// Everything that differs from one network to the next.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisParams {
    /// Time of block 0, seconds; stamped on types and approvals. 0 counts as 1, since 0 means "absent" there.
    pub timestamp: u64,
    /// Administers registry, verifier and relay.
    pub admin: Address,
    /// Accounts that may register enclaves.
    pub operators: Vec<Address>,
    /// Accounts that may settle evidence.
    pub relayers: Vec<Address>,
    /// Types of enclaves: number and name.
    pub tee_types: Vec<(u8, String)>,
    /// Measurements accepted from the start.
    pub approved_measurements: Vec<ApprovedMeasurement>,
    /// Seconds after which an enclave that was not heard of is inactive.
    pub heartbeat_max_age: u64,
    /// Funded accounts; an address may appear more than once, the amounts add up.
    pub funding: Vec<Funding>,
}

impl GenesisParams {
    /// Type 0 named `LLMProxy`, heartbeats of 1800 s, and nobody but an admin.
    pub fn new(admin: Address, timestamp: u64) -> Self {
        Self {
            timestamp,
            admin,
            operators: Vec::new(),
            relayers: Vec::new(),
            tee_types: vec![(0, "LLMProxy".to_owned())],
            approved_measurements: Vec::new(),
            heartbeat_max_age: 1800,
            funding: Vec::new(),
        }
    }
}

/// Accounts of the OpenGradient chain: registry, verifiers, relay, the ubiquitous tools, native balances.
///
/// # Errors
/// When a committed artifact is damaged.
pub fn opengradient_alloc(params: &GenesisParams) -> Result<Alloc, Error> {
    let mut alloc = Alloc::new();
    fund(&mut alloc, params);
    place_tools(&mut alloc)?;

    // Code that no transaction can run stands where the native verifiers are, so that Solidity's check for code
    // passes; the executor answers before it is reached.
    for precompile in [addresses::TEE_VERIFIER_PRECOMPILE, addresses::EVIDENCE_PRECOMPILE] {
        place(&mut alloc, precompile, bytes!("fe"), Storage::new());
    }

    let registry = Contract::TeeRegistry.artifact()?;
    place(
        &mut alloc,
        addresses::TEE_REGISTRY,
        registry.runtime_code()?,
        registry_storage(&registry, params)?,
    );
    let alias = Contract::TeeRegistryAlias.artifact()?;
    place(&mut alloc, addresses::TEE_REGISTRY_ALIAS, alias.runtime_code()?, Storage::new());

    let verifier = Contract::TeeBatchVerifier.artifact()?;
    for address in [addresses::INFERENCE_VERIFIER, addresses::INFERENCE_VERIFIER_OLDER] {
        let mut storage = Writer::default();
        grant(&mut storage, verifier.slot("_roles")?, DEFAULT_ADMIN_ROLE, params.admin);
        storage.word(verifier.slot("registry")?, addresses::TEE_REGISTRY.into_word().into());
        place(&mut alloc, address, verifier.runtime_code()?, storage.finish());
    }

    let relay = Contract::InferenceSettlementRelay.artifact()?;
    let code = relay.runtime_code_with(&[
        ("REGISTRY", addresses::TEE_REGISTRY),
        ("SETTLEMENT_CONTRACT", addresses::INFERENCE_VERIFIER),
    ])?;
    let mut storage = Writer::default();
    let roles = relay.slot("_roles")?;
    grant(&mut storage, roles, DEFAULT_ADMIN_ROLE, params.admin);
    for &relayer in &params.relayers {
        grant(&mut storage, roles, keccak256("SETTLEMENT_RELAY_ROLE"), relayer);
    }
    place(&mut alloc, addresses::SETTLEMENT_RELAY, code, storage.finish());
    Ok(alloc)
}

/// Accounts of the payment chain: tokens, x402 proxies, the ubiquitous tools, native balances.
///
/// # Errors
/// When a committed artifact is damaged.
pub fn base_alloc(params: &GenesisParams) -> Result<Alloc, Error> {
    let mut alloc = Alloc::new();
    fund(&mut alloc, params);
    place_tools(&mut alloc)?;
    for (address, contract) in [
        (addresses::X402_EXACT_PROXY, Contract::X402ExactPermit2Proxy),
        (addresses::X402_UPTO_PROXY, Contract::X402UptoPermit2Proxy),
    ] {
        place(&mut alloc, address, contract.artifact()?.runtime_code()?, Storage::new());
    }

    let opg = Contract::OpenGradientToken.artifact()?;
    let slots = TokenSlots {
        balances: opg.slot("_balances")?,
        allowances: opg.slot("_allowances")?,
        total_supply: opg.slot("_totalSupply")?,
    };
    place(
        &mut alloc,
        addresses::OPG,
        opg.runtime_code()?,
        token_storage(&slots, params, |funding| funding.opg),
    );

    let usdc = Contract::UsdCoin.artifact()?;
    let slots = TokenSlots {
        balances: usdc.slot("balanceOf")?,
        allowances: usdc.slot("allowance")?,
        total_supply: usdc.slot("totalSupply")?,
    };
    place(
        &mut alloc,
        addresses::USDC,
        usdc.runtime_code()?,
        token_storage(&slots, params, |funding| funding.usdc),
    );
    Ok(alloc)
}

const DEFAULT_ADMIN_ROLE: B256 = B256::ZERO;

fn registry_storage(registry: &Artifact, params: &GenesisParams) -> Result<Storage, Error> {
    let mut storage = Writer::default();
    let roles = registry.slot("_roles")?;
    grant(&mut storage, roles, DEFAULT_ADMIN_ROLE, params.admin);
    for &operator in &params.operators {
        grant(&mut storage, roles, keccak256("TEE_OPERATOR"), operator);
    }
    storage.word(registry.slot("heartbeatMaxAge")?, U256::from(params.heartbeat_max_age));

    let added_at = U256::from(params.timestamp.max(1));
    let tee_types = registry.slot("teeTypes")?;
    for (number, name) in &params.tee_types {
        // struct TEETypeInfo { string name; uint256 addedAt; }
        let slot = mapping_slot(number_key(u64::from(*number)), tee_types);
        storage.bytes(slot, name.as_bytes());
        storage.word(slot.wrapping_add(U256::ONE), added_at);
    }
    let numbers: Vec<u8> = params.tee_types.iter().map(|(number, _)| *number).collect();
    storage.bytes_array(registry.slot("_teeTypeList")?, &numbers);

    let pcr_records = registry.slot("pcrRecords")?;
    let pcr_list = registry.slot("_pcrList")?;
    let mut next_entry = data_slot(pcr_list);
    storage.word(pcr_list, U256::from(params.approved_measurements.len()));
    for ApprovedMeasurement { tee_type, pcr_hash, version } in &params.approved_measurements {
        let tee_type = u64::from(*tee_type);
        // struct ApprovedPCR { bool approved; uint8 teeType; uint256 approvedAt; string version; }
        let slot = mapping_slot(*pcr_hash, mapping_slot(number_key(tee_type), pcr_records));
        storage.word(slot, U256::from(1 | (tee_type << 8)));
        storage.word(slot.wrapping_add(U256::ONE), added_at);
        storage.bytes(slot.wrapping_add(U256::from(2)), version.as_bytes());
        // struct PCRKey { bytes32 pcrHash; uint8 teeType; }
        storage.word(next_entry, (*pcr_hash).into());
        storage.word(next_entry.wrapping_add(U256::ONE), U256::from(tee_type));
        next_entry = next_entry.wrapping_add(U256::from(2));
    }
    Ok(storage.finish())
}

struct TokenSlots {
    balances: U256,
    allowances: U256,
    total_supply: U256,
}

fn token_storage(
    slots: &TokenSlots,
    params: &GenesisParams,
    amount: impl Fn(&Funding) -> U256,
) -> Storage {
    let mut balances: BTreeMap<Address, U256> = BTreeMap::new();
    let mut total_supply = U256::ZERO;
    let mut storage = Writer::default();
    for funding in &params.funding {
        let amount = amount(funding);
        let balance = balances.entry(funding.address).or_default();
        *balance = balance.saturating_add(amount);
        total_supply = total_supply.saturating_add(amount);
        if funding.permit2_allowance {
            let of_owner = mapping_slot(address_key(funding.address), slots.allowances);
            storage.word(mapping_slot(address_key(addresses::PERMIT2), of_owner), U256::MAX);
        }
    }
    for (owner, balance) in balances {
        storage.word(mapping_slot(address_key(owner), slots.balances), balance);
    }
    storage.word(slots.total_supply, total_supply);
    storage.finish()
}

/// Sets `_roles[role].hasRole[account]` of OpenZeppelin's AccessControl.
fn grant(storage: &mut Writer, roles: U256, role: B256, account: Address) {
    storage.word(mapping_slot(address_key(account), mapping_slot(role, roles)), U256::ONE);
}

fn fund(alloc: &mut Alloc, params: &GenesisParams) {
    for funding in &params.funding {
        let account = alloc.entry(funding.address).or_default();
        account.balance = account.balance.saturating_add(funding.native);
    }
}

fn place_tools(alloc: &mut Alloc) -> Result<(), Error> {
    for (address, contract) in [
        (addresses::PERMIT2, Contract::Permit2),
        (addresses::MULTICALL3, Contract::Multicall3),
        (addresses::CREATE2_DEPLOYER, Contract::Create2Deployer),
        (addresses::SAFE_SINGLETON_FACTORY, Contract::Create2Deployer),
    ] {
        place(alloc, address, contract.artifact()?.runtime_code()?, Storage::new());
    }
    Ok(())
}

fn place(alloc: &mut Alloc, address: Address, code: Bytes, storage: Storage) {
    let account = alloc.entry(address).or_default();
    account.nonce = 1;
    account.code = code;
    account.storage = storage;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> GenesisParams {
        let funded = |byte, opg: u64| Funding {
            address: Address::repeat_byte(byte),
            native: U256::from(100),
            opg: U256::from(opg),
            usdc: U256::from(3),
            permit2_allowance: byte == 2,
        };
        GenesisParams {
            funding: vec![funded(1, 5), funded(2, 7), funded(1, 1)],
            ..GenesisParams::new(Address::repeat_byte(9), 0)
        }
    }

    #[test]
    fn amounts_of_one_account_add_up_and_make_the_supply() {
        let alloc = base_alloc(&params()).expect("artifacts are fine");
        assert_eq!(alloc[&Address::repeat_byte(1)].balance, U256::from(200));
        let opg = &alloc[&addresses::OPG].storage;
        let balance = |byte| {
            opg[&B256::from(mapping_slot(address_key(Address::repeat_byte(byte)), U256::ZERO))]
        };
        assert_eq!(balance(1), number_key(6));
        assert_eq!(balance(2), number_key(7));
        assert_eq!(opg[&number_key(2)], number_key(13));
        assert_eq!(opg.values().filter(|word| **word == B256::from(U256::MAX)).count(), 1);
    }

    #[test]
    fn accounts_survive_json() {
        let alloc = opengradient_alloc(&params()).expect("artifacts are fine");
        let text = serde_json::to_string(&alloc).expect("serialises");
        assert_eq!(serde_json::from_str::<Alloc>(&text).expect("its own output"), alloc);
    }
}
