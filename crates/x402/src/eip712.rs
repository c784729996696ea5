//! What wallets sign (EIP-712): Permit2 transfers with the x402 witnesses, EIP-3009 transfers, EIP-2612 permits.
//!
//! Every function is `keccak256(0x19 0x01 ‖ domain separator ‖ struct hash)` over fixed types. The type strings
//! stand here once; a test compares their hashes with the published ones.

use alloy_primitives::{Address, B256, U256, keccak256};

use crate::PERMIT2;
use crate::wire::{Eip3009Authorization, Permit2Authorization};

/// Type string of Permit2's domain, which has no version.
pub const PERMIT2_DOMAIN_TYPE: &str =
    "EIP712Domain(string name,uint256 chainId,address verifyingContract)";
/// Type string of a token's domain.
pub const TOKEN_DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
/// Type string of the token and amount inside a Permit2 transfer.
pub const TOKEN_PERMISSIONS_TYPE: &str = "TokenPermissions(address token,uint256 amount)";
/// Type string of the `upto` witness.
pub const UPTO_WITNESS_TYPE: &str = "Witness(address to,address facilitator,uint256 validAfter)";
/// Type string of the `exact` witness.
pub const EXACT_WITNESS_TYPE: &str = "Witness(address to,uint256 validAfter)";
/// Type string of a Permit2 transfer with the `upto` witness.
pub const UPTO_TRANSFER_TYPE: &str = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,\
uint256 nonce,uint256 deadline,Witness witness)TokenPermissions(address token,uint256 amount)\
Witness(address to,address facilitator,uint256 validAfter)";
/// Type string of a Permit2 transfer with the `exact` witness.
pub const EXACT_TRANSFER_TYPE: &str = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,\
uint256 nonce,uint256 deadline,Witness witness)TokenPermissions(address token,uint256 amount)\
Witness(address to,uint256 validAfter)";
/// Type string of an EIP-3009 transfer.
pub const TRANSFER_WITH_AUTHORIZATION_TYPE: &str = "TransferWithAuthorization(address from,address to,\
uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
/// Type string of an EIP-2612 permit.
pub const PERMIT_TYPE: &str =
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";

/// The EIP-712 domain of a token.
#[derive(Clone, Copy, Debug)]
pub struct TokenContract<'a> {
    /// Domain name.
    pub name: &'a str,
    /// Domain version.
    pub version: &'a str,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The token.
    pub address: Address,
}

/// An EIP-2612 permit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permit {
    /// Whose allowance.
    pub owner: Address,
    /// Who may spend.
    pub spender: Address,
    /// Token base units.
    pub value: U256,
    /// The owner's next permit nonce of the token.
    pub nonce: U256,
    /// Unix seconds.
    pub deadline: U256,
}

/// Domain separator of Permit2 on a chain.
pub fn permit2_domain_separator(chain_id: u64) -> B256 {
    Words::of(PERMIT2_DOMAIN_TYPE)
        .hash(keccak256(b"Permit2"))
        .number(U256::from(chain_id))
        .address(PERMIT2)
        .finish()
}

/// Domain separator of a token.
pub fn token_domain_separator(token: &TokenContract<'_>) -> B256 {
    Words::of(TOKEN_DOMAIN_TYPE)
        .hash(keccak256(token.name.as_bytes()))
        .hash(keccak256(token.version.as_bytes()))
        .number(U256::from(token.chain_id))
        .address(token.address)
        .finish()
}

/// Struct hash of a Permit2 transfer; the witness is the `upto` one when it names a facilitator.
pub fn permit2_struct_hash(authorization: &Permit2Authorization) -> B256 {
    let witness = &authorization.witness;
    let (transfer_type, witness_hash) = match witness.facilitator {
        Some(facilitator) => (
            UPTO_TRANSFER_TYPE,
            Words::of(UPTO_WITNESS_TYPE)
                .address(witness.to)
                .address(facilitator)
                .number(witness.valid_after)
                .finish(),
        ),
        None => (
            EXACT_TRANSFER_TYPE,
            Words::of(EXACT_WITNESS_TYPE).address(witness.to).number(witness.valid_after).finish(),
        ),
    };
    let permitted = Words::of(TOKEN_PERMISSIONS_TYPE)
        .address(authorization.permitted.token)
        .number(authorization.permitted.amount)
        .finish();
    Words::of(transfer_type)
        .hash(permitted)
        .address(authorization.spender)
        .number(authorization.nonce)
        .number(authorization.deadline)
        .hash(witness_hash)
        .finish()
}

/// What the payer signs for a Permit2 transfer on a chain.
pub fn permit2_digest(authorization: &Permit2Authorization, chain_id: u64) -> B256 {
    signing_digest(permit2_domain_separator(chain_id), permit2_struct_hash(authorization))
}

/// What the payer signs for an EIP-3009 transfer.
pub fn eip3009_digest(authorization: &Eip3009Authorization, token: &TokenContract<'_>) -> B256 {
    let struct_hash = Words::of(TRANSFER_WITH_AUTHORIZATION_TYPE)
        .address(authorization.from)
        .address(authorization.to)
        .number(authorization.value)
        .number(authorization.valid_after)
        .number(authorization.valid_before)
        .hash(authorization.nonce)
        .finish();
    signing_digest(token_domain_separator(token), struct_hash)
}

/// What an owner signs for an EIP-2612 permit.
pub fn eip2612_digest(permit: &Permit, token: &TokenContract<'_>) -> B256 {
    let struct_hash = Words::of(PERMIT_TYPE)
        .address(permit.owner)
        .address(permit.spender)
        .number(permit.value)
        .number(permit.nonce)
        .number(permit.deadline)
        .finish();
    signing_digest(token_domain_separator(token), struct_hash)
}

fn signing_digest(domain_separator: B256, struct_hash: B256) -> B256 {
    let mut bytes = [0_u8; 66];
    bytes[..2].copy_from_slice(&[0x19, 0x01]);
    bytes[2..34].copy_from_slice(domain_separator.as_slice());
    bytes[34..].copy_from_slice(struct_hash.as_slice());
    keccak256(bytes)
}

/// `abi.encode` of a type hash and static words, hashed.
struct Words(Vec<u8>);

impl Words {
    fn of(type_string: &str) -> Self {
        Self(keccak256(type_string.as_bytes()).to_vec())
    }

    fn hash(mut self, hash: B256) -> Self {
        self.0.extend_from_slice(hash.as_slice());
        self
    }

    fn number(self, number: U256) -> Self {
        self.hash(B256::from(number))
    }

    fn address(self, address: Address) -> Self {
        self.hash(address.into_word())
    }

    fn finish(self) -> B256 {
        keccak256(self.0)
    }
}
