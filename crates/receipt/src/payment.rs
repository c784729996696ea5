//! The payment transaction that a bundle refers to.
//!
//! It is *referenced, not proven*: the bundle carries the transaction as it was signed, which shows that the
//! facilitator named by the payer's permit submitted exactly this charge; that the payment chain accepted it is
//! for the verifier to look up there, by [`Payment::transaction_hash`].

use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy_rlp::{Decodable, Header};
use alloy_sol_types::SolCall;
use og_contracts::IX402UptoPermit2Proxy::{settleCall, settleWithPermitCall};
use og_contracts::addresses::X402_UPTO_PROXY;

use crate::{Claims, Error};

/// Most bytes of a payment transaction.
pub const PAYMENT_BYTES_MAX: usize = 8_192;

/// EIP-2718 type of an EIP-1559 transaction.
const EIP_1559: u8 = 2;

/// Half the order of secp256k1: the largest `s` that EIP-2 allows, so that a transaction has one signature.
const S_MAX: U256 = U256::from_limbs([
    0xdfe9_2f46_681b_20a0,
    0x5d57_6e73_57a4_501d,
    0xffff_ffff_ffff_ffff,
    0x7fff_ffff_ffff_ffff,
]);

/// A signed EIP-1559 transaction that settles an x402 `upto` permit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payment {
    /// Hash by which the payment chain knows it.
    pub transaction_hash: B256,
    /// Chain it was signed for.
    pub chain_id: u64,
    /// The account that signed it.
    pub sender: Address,
    /// Contract called.
    pub to: Address,
    /// Token moved.
    pub asset: Address,
    /// Amount moved, in base units.
    pub amount: U256,
    /// Account that pays.
    pub payer: Address,
    /// Nonce of its permit.
    pub permit_nonce: U256,
    /// Account that is paid.
    pub pay_to: Address,
    /// The only account that the permit lets settle it.
    pub facilitator: Address,
}

impl Payment {
    /// Reads a raw transaction (`0x02 ‖ rlp(…)`) that calls `settle` or `settleWithPermit` of the `upto` proxy.
    ///
    /// # Errors
    /// When the bytes are not one such transaction, canonically encoded and signed.
    pub fn decode(raw: &[u8]) -> Result<Self, Error> {
        let (len, max) = (raw.len(), PAYMENT_BYTES_MAX);
        if len > max {
            return Err(Error::TooLarge { what: "payment", len, max });
        }
        let wrong = |problem| Error::field("payment", problem);
        let transaction = Eip1559::decode(raw).map_err(wrong)?;
        let sender = transaction.sender().ok_or(wrong("has no valid signature"))?;
        let to = transaction.to.ok_or(wrong("creates a contract"))?;
        let call = settlement(&transaction.input)
            .ok_or(wrong("does not call settle or settleWithPermit of the upto proxy"))?;
        Ok(Self {
            transaction_hash: keccak256(raw),
            chain_id: transaction.chain_id,
            sender,
            to,
            asset: call.permit.permitted.token,
            amount: call.amount,
            payer: call.owner,
            permit_nonce: call.permit.nonce,
            pay_to: call.witness.to,
            facilitator: call.witness.facilitator,
        })
    }

    /// Whether this is the payment that `claims` speak of.
    ///
    /// # Errors
    /// The first term that differs.
    pub fn require(&self, claims: &Claims) -> Result<(), &'static str> {
        let terms = [
            (self.chain_id == claims.payment_chain_id, "chain is not the receipt's payment chain"),
            (self.to == X402_UPTO_PROXY, "called contract is not the upto proxy"),
            (self.sender == claims.facilitator, "sender is not the receipt's facilitator"),
            (self.facilitator == claims.facilitator, "permit is for another facilitator"),
            (self.asset == claims.asset, "asset is not the receipt's"),
            (self.amount == claims.total, "amount is not the receipt's total"),
            (self.payer == claims.payer, "payer is not the receipt's"),
            (self.permit_nonce == claims.permit_nonce, "permit nonce is not the receipt's"),
            (self.pay_to == claims.pay_to, "payee is not the receipt's"),
        ];
        terms.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, problem)| Err(problem))
    }
}

fn settlement(input: &[u8]) -> Option<settleCall> {
    // The canonical encoding of a call is the only one accepted.
    if let Ok(call) = settleCall::abi_decode(input) {
        return (call.abi_encode() == input).then_some(call);
    }
    let call = settleWithPermitCall::abi_decode(input).ok()?;
    (call.abi_encode() == input).then(|| settleCall {
        permit: call.permit,
        amount: call.amount,
        owner: call.owner,
        witness: call.witness,
        signature: call.signature,
    })
}

/// The fields of an EIP-1559 transaction that matter here.
struct Eip1559 {
    chain_id: u64,
    to: Option<Address>,
    input: Bytes,
    /// Keccak-256 of what the signature covers.
    signing_hash: B256,
    odd_y: bool,
    r: U256,
    s: U256,
}

impl Eip1559 {
    fn decode(raw: &[u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "is not canonical RLP of an EIP-1559 transaction";
        let Some((&EIP_1559, mut rest)) = raw.split_first() else {
            return Err("is not an EIP-1559 transaction");
        };
        let mut fields = Header::decode_bytes(&mut rest, true).map_err(|_| MALFORMED)?;
        if !rest.is_empty() {
            return Err(MALFORMED);
        }
        let all = fields;
        let parse = |fields: &mut &[u8]| -> alloy_rlp::Result<_> {
            let chain_id = u64::decode(fields)?;
            let _nonce = u64::decode(fields)?;
            let _max_priority_fee_per_gas = u128::decode(fields)?;
            let _max_fee_per_gas = u128::decode(fields)?;
            let _gas_limit = u64::decode(fields)?;
            let to = Bytes::decode(fields)?;
            let _value = U256::decode(fields)?;
            let input = Bytes::decode(fields)?;
            let _access_list = Header::decode_bytes(fields, true)?;
            let signed_len = all.len() - fields.len();
            let odd_y = bool::decode(fields)?;
            let (r, s) = (U256::decode(fields)?, U256::decode(fields)?);
            Ok((chain_id, to, input, signed_len, odd_y, r, s))
        };
        let (chain_id, to, input, signed_len, odd_y, r, s) =
            parse(&mut fields).map_err(|_| MALFORMED)?;
        if !fields.is_empty() {
            return Err(MALFORMED);
        }
        let to = match to.len() {
            0 => None,
            20 => Some(Address::from_slice(&to)),
            _ => return Err(MALFORMED),
        };
        let signed = all.get(..signed_len).ok_or(MALFORMED)?;
        let mut message = vec![EIP_1559];
        Header { list: true, payload_length: signed.len() }.encode(&mut message);
        message.extend_from_slice(signed);
        Ok(Self { chain_id, to, input, signing_hash: keccak256(message), odd_y, r, s })
    }

    fn sender(&self) -> Option<Address> {
        if self.s > S_MAX {
            return None;
        }
        Signature::new(self.r, self.s, self.odd_y)
            .recover_address_from_prehash(&self.signing_hash)
            .ok()
    }
}
