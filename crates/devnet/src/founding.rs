//! What a network is born with, kept for its restarts.

use std::path::Path;

use alloy_primitives::{B256, U256};
use anyhow::{Context as _, Result, ensure};
use og_attest::simulated::Measurements;
use og_chain::{Genesis, TrustedRoot};
use og_consensus::ValidatorKeys;
use og_contracts::genesis::{
    ApprovedMeasurement, Funding, GenesisParams, base_alloc, opengradient_alloc,
};
use og_light::ValidatorSet;
use og_primitives::networks::{BASE_CHAIN_ID, OPENGRADIENT_CHAIN_ID};
use serde::{Deserialize, Serialize};

use crate::accounts::{DevAccount, OPERATOR, ServiceAccounts, users};

/// The image whose (simulated) measurement the registry approves from block 0 on.
pub(crate) const GATEWAY_IMAGE: &str = "og-gateway";

/// File in the data directory.
const FILE: &str = "founding.json";

/// Native coin of a published account on each chain, in wei.
const USER_NATIVE: u128 = 100 * 10_u128.pow(18);
/// OPG of a published account, in base units.
const USER_OPG: u128 = 10_000 * 10_u128.pow(18);
/// USDC of a published account, in base units.
const USER_USDC: u64 = 10_000 * 10_u64.pow(6);
/// Native coin of a service, in wei: gas for a long life.
const SERVICE_NATIVE: u128 = 1_000_000 * 10_u128.pow(18);

/// What cannot be derived again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Founding {
    /// Unix seconds of block 0 of both chains.
    pub(crate) timestamp: u64,
    /// How many validators there are.
    pub(crate) validators: u8,
    /// All secrets derive from it: validators', services' and users'.
    pub(crate) seed: B256,
}

impl Founding {
    /// Reads the founding of the network in `data_dir`, or founds one now.
    pub(crate) fn open(data_dir: &Path, validators: u8, now_secs: u64) -> Result<Self> {
        ensure!(validators > 0, "a network needs at least one validator");
        let path = data_dir.join(FILE);
        if path.exists() {
            let bytes =
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            return serde_json::from_slice(&bytes)
                .with_context(|| format!("{} describes no network", path.display()));
        }
        let mut seed = B256::ZERO;
        getrandom::fill(seed.as_mut_slice()).context("no random bytes for the validators")?;
        let founding = Self { timestamp: now_secs, validators, seed };
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("creating {}", data_dir.display()))?;
        og_client::network::write_private(&path, &serde_json::to_vec_pretty(&founding)?)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(founding)
    }

    /// The validators' secrets.
    pub(crate) fn keys(&self) -> Vec<ValidatorKeys> {
        (0..u32::from(self.validators))
            .map(|index| ValidatorKeys::from_seed(&self.seed.0, index))
            .collect()
    }

    /// The validators as everybody knows them.
    pub(crate) fn validator_set(&self) -> Result<ValidatorSet> {
        let validators = self.keys().iter().map(ValidatorKeys::validator).collect();
        ValidatorSet::new(validators).context("the validators' public keys")
    }

    /// Block 0 of the OpenGradient chain.
    pub(crate) fn opengradient(&self) -> Result<Genesis> {
        let params = self.params()?;
        let development = og_attest::roots::DEVELOPMENT;
        let mut genesis = Genesis::new(OPENGRADIENT_CHAIN_ID, self.timestamp);
        genesis.alloc = opengradient_alloc(&params)?;
        genesis
            .trusted_roots
            .push(TrustedRoot { sha256: development.sha256, simulated: development.simulated });
        let mut extra = Vec::new();
        for validator in self.validator_set()?.validators() {
            extra.extend_from_slice(&validator.to_bytes());
        }
        genesis.extra = extra.into();
        Ok(genesis)
    }

    /// Block 0 of the payment chain.
    pub(crate) fn payment(&self) -> Result<Genesis> {
        let mut genesis = Genesis::new(BASE_CHAIN_ID, self.timestamp);
        genesis.alloc = base_alloc(&self.params()?)?;
        Ok(genesis)
    }

    fn params(&self) -> Result<GenesisParams> {
        let services = ServiceAccounts::derive(self.seed)?;
        let gas_only = |account: &DevAccount| Funding {
            address: account.address(),
            native: U256::from(SERVICE_NATIVE),
            ..Funding::default()
        };
        let mut funding = vec![
            gas_only(&services.admin),
            gas_only(&services.operator),
            gas_only(&services.facilitator),
            gas_only(&services.anchor),
            gas_only(&services.heartbeat),
        ];
        for (index, account) in users(self.seed)?.iter().enumerate() {
            funding.push(Funding {
                address: account.address(),
                native: U256::from(USER_NATIVE),
                opg: U256::from(USER_OPG),
                usdc: U256::from(USER_USDC),
                // The first one starts as a newcomer does: clients must grant what they need.
                permit2_allowance: index > 0,
            });
        }
        let measurements = Measurements::of_image(GATEWAY_IMAGE);
        Ok(GenesisParams {
            operators: vec![
                services.operator.address(),
                DevAccount::derive(self.seed, OPERATOR)?.address(),
            ],
            relayers: vec![services.anchor.address()],
            approved_measurements: vec![ApprovedMeasurement {
                tee_type: og_client::registry::LLM_PROXY,
                pcr_hash: measurements.pcr_hash(),
                version: format!("{GATEWAY_IMAGE} (simulated)"),
            }],
            funding,
            ..GenesisParams::new(services.admin.address(), self.timestamp)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_founded_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Founding::open(folder.path(), 4, 1_700_000_000).unwrap();
        let again = Founding::open(folder.path(), 7, 1_800_000_000).unwrap();
        assert_eq!(again.validators, 4);
        assert_eq!(again.seed, first.seed);
        assert_eq!(
            again.opengradient().unwrap().hash().unwrap(),
            first.opengradient().unwrap().hash().unwrap()
        );
        let other = Founding { seed: B256::repeat_byte(1), ..first.clone() };
        assert_ne!(
            other.opengradient().unwrap().hash().unwrap(),
            first.opengradient().unwrap().hash().unwrap()
        );
        assert_eq!(first.validator_set().unwrap().len(), 4);
    }
}
