//! What accounts hold, and how amounts are written for people.

use alloy_primitives::{Address, U256};
use og_contracts::IERC20Permit3009;

use crate::{Chain, Error, NetworkFile};

/// Decimals of OPG.
pub const OPG_DECIMALS: usize = 18;
/// Decimals of USDC.
pub const USDC_DECIMALS: usize = 6;
/// Decimals of both chains' native coins.
pub const NATIVE_DECIMALS: usize = 18;

/// What an account holds, in base units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holdings {
    /// OPG on the payment chain.
    pub opg: U256,
    /// USDC on the payment chain.
    pub usdc: U256,
    /// Native coin of the OpenGradient chain.
    pub native_opengradient: U256,
    /// Native coin of the payment chain.
    pub native_payment: U256,
}

/// Reads what an account holds on both chains.
///
/// # Errors
/// [`Error::Chain`] when one of them does not answer.
pub async fn holdings(
    network: &NetworkFile,
    opengradient: &Chain,
    payment: &Chain,
    account: Address,
) -> Result<Holdings, Error> {
    let balance_of = IERC20Permit3009::balanceOfCall { account };
    Ok(Holdings {
        opg: payment.call(network.contracts.opg, &balance_of).await?,
        usdc: payment.call(network.contracts.usdc, &balance_of).await?,
        native_opengradient: opengradient.balance(account).await?,
        native_payment: payment.balance(account).await?,
    })
}

/// Writes base units as a decimal number without trailing zeros.
pub fn decimal(amount: U256, decimals: usize) -> String {
    let digits = format!("{:0>width$}", amount.to_string(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_without_loss() {
        for (amount, decimals, text) in [
            (0_u64, 18, "0"),
            (1, 18, "0.000000000000000001"),
            (10_u64.pow(18), 18, "1"),
            (1_500_000, 6, "1.5"),
            (1_234_567_890, 6, "1234.56789"),
            (42, 0, "42"),
        ] {
            assert_eq!(decimal(U256::from(amount), decimals), text);
        }
    }
}
