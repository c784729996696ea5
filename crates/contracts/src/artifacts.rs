//! The committed output of the Solidity compiler.

use std::collections::BTreeMap;

use alloy_primitives::{Address, Bytes, U256};
use serde::Deserialize;

use crate::Error;

macro_rules! contracts {
    ($($(#[$doc:meta])* $variant:ident => $file:literal,)*) => {
        /// A contract of which an artifact is committed.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Contract { $($(#[$doc])* $variant,)* }

        impl Contract {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name of the contract, and of its artifact without `.json`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $file,)* }
            }

            /// The artifact as committed.
            pub const fn json(self) -> &'static str {
                match self {
                    $(Self::$variant => include_str!(concat!("../../../contracts/artifacts/", $file, ".json")),)*
                }
            }
        }
    };
}

contracts! {
    /// Directory of attested enclaves.
    TeeRegistry => "TEERegistry",
    /// Forwards reads from an older registry address.
    TeeRegistryAlias => "TEERegistryAlias",
    /// Checks recent inference signatures.
    TeeInferenceVerifier => "TEEInferenceVerifier",
    /// Checks inference signatures of any time too.
    TeeBatchVerifier => "TEEBatchVerifier",
    /// Settles evidence.
    InferenceSettlementRelay => "InferenceSettlementRelay",
    /// OPG.
    OpenGradientToken => "OpenGradientToken",
    /// The devnet's USDC.
    UsdCoin => "UsdCoin",
    /// x402 `exact` over Permit2.
    X402ExactPermit2Proxy => "X402ExactPermit2Proxy",
    /// x402 `upto` over Permit2.
    X402UptoPermit2Proxy => "X402UptoPermit2Proxy",
    /// Uniswap's Permit2, as they compiled it.
    Permit2 => "Permit2",
    /// Multicall3, as its authors compiled it.
    Multicall3 => "Multicall3",
    /// The deterministic deployment proxy.
    Create2Deployer => "Create2Deployer",
}

impl Contract {
    /// Reads the artifact.
    ///
    /// # Errors
    /// When the committed file is damaged.
    pub fn artifact(self) -> Result<Artifact, Error> {
        let name = self.name();
        let file: File =
            serde_json::from_str(self.json()).map_err(|source| Error::Artifact { name, source })?;
        Ok(Artifact { name, file })
    }
}

/// What the compiler said about one contract.
#[derive(Debug)]
pub struct Artifact {
    name: &'static str,
    file: File,
}

impl Artifact {
    /// Code that deploys the contract, to be followed by the encoded constructor arguments; empty for contracts
    /// that only genesis places.
    pub fn creation_code(&self) -> &Bytes {
        &self.file.bytecode
    }

    /// Runtime code of a contract without immutables.
    ///
    /// # Errors
    /// When it has some.
    pub fn runtime_code(&self) -> Result<Bytes, Error> {
        self.runtime_code_with(&[])
    }

    /// Runtime code with its immutables, all of them addresses, set as the constructor would.
    ///
    /// # Errors
    /// When an immutable does not exist or one is left out.
    pub fn runtime_code_with(
        &self,
        immutables: &[(&'static str, Address)],
    ) -> Result<Bytes, Error> {
        let all = self.file.immutable_references.len();
        if immutables.len() != all {
            return Err(Error::ImmutablesLeft { name: self.name, set: immutables.len(), all });
        }
        let mut code = self.file.deployed_bytecode.to_vec();
        for &(label, value) in immutables {
            let missing = Error::NoImmutable { name: self.name, label };
            let Some(places) = self.file.immutable_references.get(label) else {
                return Err(missing);
            };
            for &start in places {
                let Some(word) = start.checked_add(32).and_then(|end| code.get_mut(start..end))
                else {
                    return Err(missing);
                };
                word.copy_from_slice(value.into_word().as_slice());
            }
        }
        Ok(code.into())
    }

    /// Storage slot of a state variable that begins a slot.
    ///
    /// # Errors
    /// When the layout has no such variable.
    pub fn slot(&self, label: &'static str) -> Result<U256, Error> {
        match self.file.storage_layout.get(label) {
            Some(variable) if variable.offset == 0 => Ok(U256::from(variable.slot)),
            _ => Err(Error::NoVariable { name: self.name, label }),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    bytecode: Bytes,
    deployed_bytecode: Bytes,
    #[serde(default)]
    immutable_references: BTreeMap<String, Vec<usize>>,
    #[serde(default)]
    storage_layout: BTreeMap<String, Variable>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    slot: u64,
    offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_artifact_is_readable_and_has_code() {
        for &contract in Contract::ALL {
            let artifact = contract.artifact().expect("committed");
            assert!(!artifact.file.deployed_bytecode.is_empty(), "{}", contract.name());
        }
    }

    #[test]
    fn immutables_are_set_everywhere_or_not_at_all() {
        let relay = Contract::InferenceSettlementRelay.artifact().expect("committed");
        assert!(matches!(relay.runtime_code(), Err(Error::ImmutablesLeft { set: 0, all: 2, .. })));
        let (registry, verifier) = (Address::repeat_byte(0xaa), Address::repeat_byte(0xbb));
        let code = relay
            .runtime_code_with(&[("REGISTRY", registry), ("SETTLEMENT_CONTRACT", verifier)])
            .expect("both exist");
        let times = |needle: Address| code.windows(20).filter(|w| *w == needle.as_slice()).count();
        assert_eq!(times(registry), relay.file.immutable_references["REGISTRY"].len());
        assert_eq!(times(verifier), relay.file.immutable_references["SETTLEMENT_CONTRACT"].len());
        assert!(times(registry) > 0 && times(verifier) > 0);
        assert!(matches!(
            relay.runtime_code_with(&[("REGISTRY", registry), ("OTHER", verifier)]),
            Err(Error::NoImmutable { label: "OTHER", .. })
        ));
    }
}
