//! What the payment chain says about a payer: balance, allowance, and whether the payment's nonce is spent.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use og_contracts::IERC20Permit3009::{AuthorizationUsed, Transfer, allowanceCall, balanceOfCall};
use og_contracts::IMulticall3::{self, aggregate3Call};
use og_contracts::IPermit2::nonceBitmapCall;
use og_contracts::addresses::MULTICALL3;
use og_x402::{InvalidReason, PERMIT2, Scheme, VerifiedPayment};

use crate::calls;
use crate::rpc::{Call, Rpc, RpcError};

/// How far back a settlement is looked for, in blocks. Permits live for minutes.
const LOOK_BACK_BLOCKS: u64 = 10_000;

/// What the payment chain says about a payer, in token base units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Funds {
    /// The payer's balance.
    pub balance: U256,
    /// What Permit2 may move; without limit for EIP-3009, which needs none.
    pub allowance: U256,
    /// Whether the payment's nonce is spent.
    pub nonce_used: bool,
}

impl Funds {
    /// What can be charged at most.
    pub fn available(&self) -> U256 {
        self.balance.min(self.allowance)
    }

    /// Why `amount` cannot be charged, if so. A permit that raises the allowance makes the present one irrelevant.
    pub fn shortfall(&self, payment: &VerifiedPayment, amount: U256) -> Option<InvalidReason> {
        let exact = payment.scheme == Scheme::ExactEip3009;
        if self.nonce_used {
            return Some(if exact {
                InvalidReason::ExactNonceAlreadyUsed
            } else {
                InvalidReason::Permit2InvalidNonce
            });
        }
        if self.balance < amount {
            return Some(if exact {
                InvalidReason::ExactInsufficientBalance
            } else {
                InvalidReason::Permit2InsufficientBalance
            });
        }
        if self.allowance < amount && payment.sponsored_permit.is_none() {
            return Some(InvalidReason::Permit2AllowanceRequired);
        }
        None
    }
}

/// A settlement that is in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    pub(crate) transaction: B256,
    pub(crate) amount: U256,
}

/// Asks for balance, allowance and nonce in one call.
pub(crate) async fn of(rpc: &Rpc, payment: &VerifiedPayment) -> Result<Funds, RpcError> {
    let (token, payer) = (payment.terms.asset, payment.payer);
    let balance = item(token, &balanceOfCall { account: payer });
    let calls = match calls::authorization_state(payment) {
        Some(state) => vec![balance, item(token, &state)],
        None => vec![
            balance,
            item(
                PERMIT2,
                &nonceBitmapCall { owner: payer, wordPos: payment.identity.nonce >> 8_usize },
            ),
            item(token, &allowanceCall { owner: payer, spender: PERMIT2 }),
        ],
    };
    let input = aggregate3Call { calls }.abi_encode().into();
    let output = rpc.call(&Call { from: Address::ZERO, to: MULTICALL3, input }).await?;
    let results = aggregate3Call::abi_decode_returns(&output)
        .map_err(|error| RpcError::Unreachable(format!("aggregate3: {error}")))?;
    // A token that does not answer has no balance.
    let number = |at: usize| {
        let result = results.get(at).filter(|result| result.success);
        let word = result.and_then(|result| B256::try_from(result.returnData.as_ref()).ok());
        word.map_or(U256::ZERO, |word| U256::from_be_bytes(word.0))
    };
    Ok(if payment.scheme == Scheme::ExactEip3009 {
        Funds { balance: number(0), allowance: U256::MAX, nonce_used: !number(1).is_zero() }
    } else {
        let bit: usize = (payment.identity.nonce & U256::from(0xff)).saturating_to();
        Funds { balance: number(0), allowance: number(2), nonce_used: number(1).bit(bit) }
    })
}

/// Looks for the settlement that spent the payment's nonce.
pub(crate) async fn find_settlement(
    rpc: &Rpc,
    payment: &VerifiedPayment,
) -> Result<Option<Found>, RpcError> {
    let from_block = rpc.block_number().await?.saturating_sub(LOOK_BACK_BLOCKS);
    let payer = payment.payer.into_word();
    let token = payment.terms.asset;
    if payment.scheme == Scheme::ExactEip3009 {
        let nonce = B256::from(payment.identity.nonce);
        let logs =
            rpc.logs::<AuthorizationUsed>(token, &[Some(payer), Some(nonce)], from_block).await?;
        // The authorisation says what moves and to whom: whoever sent it, it is this payment.
        return Ok(logs
            .first()
            .map(|log| Found { transaction: log.transaction_hash, amount: payment.terms.amount }));
    }
    // Permit2 does not log nonces; the transfer leads to the call that spent it.
    let payee = payment.terms.pay_to.into_word();
    let logs = rpc.logs::<Transfer>(token, &[Some(payer), Some(payee)], from_block).await?;
    for log in logs {
        let Some(transaction) = rpc.transaction(log.transaction_hash).await? else { continue };
        let Some(to) = transaction.to else { continue };
        if let Some((owner, nonce, amount)) = calls::settled_by(to, &transaction.input)
            && (owner, nonce) == (payment.payer, payment.identity.nonce)
        {
            return Ok(Some(Found { transaction: log.transaction_hash, amount }));
        }
    }
    Ok(None)
}

fn item(target: Address, call: &impl SolCall) -> IMulticall3::Call3 {
    let call_data: Bytes = call.abi_encode().into();
    IMulticall3::Call3 { target, allowFailure: true, callData: call_data }
}
