//! What a request must cost, and what the payment chain says was paid.

use std::time::Duration;

use anyhow::{Context as _, bail};
use og_testkit::devnet::Devnet;
use og_testkit::rpc::{Rpc, Transfer};
use serde::Deserialize;

use crate::reports::{Report, Usage};

/// How long settlement may take before a test gives up.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// How often the chain is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A token of the devnet.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Asset {
    /// OPG, 18 decimals.
    #[default]
    Opg,
    /// USDC, 6 decimals.
    Usdc,
}

impl Asset {
    /// The token's address.
    #[must_use]
    pub fn address(self, devnet: &Devnet) -> &str {
        match self {
            Self::Opg => &devnet.contracts.opg,
            Self::Usdc => &devnet.contracts.usdc,
        }
    }

    /// The devnet's published prices per million tokens in base units: input, output.
    const fn prices(self) -> (u128, u128) {
        match self {
            Self::Opg => (100_000_000_000_000_000, 300_000_000_000_000_000),
            Self::Usdc => (50_000, 150_000),
        }
    }

    /// What a request must cost, in base units: usage times prices, rounded up once.
    #[must_use]
    pub fn cost(self, usage: Usage) -> u128 {
        let (input, output) = self.prices();
        let millionths =
            u128::from(usage.prompt_tokens) * input + u128::from(usage.completion_tokens) * output;
        millionths.div_ceil(1_000_000)
    }
}

/// A payer's money at one moment.
#[derive(Clone, Debug)]
pub struct Account<'n> {
    devnet: &'n Devnet,
    rpc: Rpc,
    address: String,
    asset: Asset,
    balance: u128,
    transfers: usize,
}

impl<'n> Account<'n> {
    /// Looks at `name`'s money.
    ///
    /// # Errors
    /// When the payment chain cannot be read.
    pub async fn look(devnet: &'n Devnet, name: &str, asset: Asset) -> anyhow::Result<Self> {
        let rpc = Rpc::new(&devnet.payment.rpc_url);
        let address = devnet.account(name)?.address.clone();
        let token = asset.address(devnet);
        let balance = rpc.token_balance(token, &address).await?;
        let transfers = rpc.transfers_from(token, &address).await?.len();
        Ok(Self { devnet, rpc, address, asset, balance, transfers })
    }

    /// The same earlier look, seen through the endpoints of `now`: a restarted network listens elsewhere.
    #[must_use]
    pub fn after_restart<'m>(&self, now: &Account<'m>) -> Account<'m> {
        Account { balance: self.balance, transfers: self.transfers, ..now.clone() }
    }

    /// Waits until `count` more payments settled, and returns exactly those.
    ///
    /// # Errors
    /// When there are fewer in time, or more; or when the balance says otherwise.
    pub async fn settled(&self, count: usize) -> anyhow::Result<Vec<Transfer>> {
        let token = self.asset.address(self.devnet);
        let start = tokio::time::Instant::now();
        let new = loop {
            let mut all = self.rpc.transfers_from(token, &self.address).await?;
            let new = all.split_off(self.transfers.min(all.len()));
            if new.len() >= count {
                break new;
            }
            if start.elapsed() > SETTLED_WITHIN {
                bail!("{} of {count} payments settled within {SETTLED_WITHIN:?}", new.len());
            }
            tokio::time::sleep(ASK_EVERY).await;
        };
        if new.len() > count {
            bail!("{} payments settled, {count} were made: {new:?}", new.len());
        }
        let paid: u128 = new.iter().map(|transfer| transfer.amount).sum();
        let balance = self.rpc.token_balance(token, &self.address).await?;
        if balance + paid != self.balance {
            bail!("the balance went from {} to {balance}, but {paid} was paid", self.balance);
        }
        let payees: Vec<String> = self
            .devnet
            .gateways
            .iter()
            .map(|gateway| gateway.payment_address.to_lowercase())
            .collect();
        if let Some(stray) = new.iter().find(|transfer| !payees.contains(&transfer.to)) {
            bail!("{stray:?} went to nobody's payment address");
        }
        Ok(new)
    }

    /// Checks that each of `reports` paid with this asset was charged its cost, once.
    ///
    /// # Errors
    /// When charges and costs differ.
    pub async fn charged(&self, reports: &[Report]) -> anyhow::Result<Vec<Transfer>> {
        let mine: Vec<&Report> =
            reports.iter().filter(|report| report.asset == self.asset).collect();
        let transfers = self.settled(mine.len()).await?;
        let mut amounts: Vec<u128> = transfers.iter().map(|transfer| transfer.amount).collect();
        let mut unknown = 0;
        for report in mine {
            let Some(usage) = report.usage else {
                unknown += 1;
                continue;
            };
            let cost = self.asset.cost(usage);
            let at = amounts.iter().position(|amount| *amount == cost);
            let at = at.with_context(|| format!("{report:?} costs {cost}; left: {amounts:?}"))?;
            amounts.swap_remove(at);
        }
        // What clients do not show is at least not free.
        if amounts.len() != unknown || amounts.contains(&0) {
            bail!("charges without a request: {amounts:?}");
        }
        Ok(transfers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_usage_times_price_rounded_up_once() {
        let usage = |prompt_tokens, completion_tokens| Usage { prompt_tokens, completion_tokens };
        assert_eq!(Asset::Opg.cost(usage(10, 5)), 2_500_000_000_000);
        assert_eq!(Asset::Usdc.cost(usage(10, 5)), 2, "1.25 is rounded up");
        assert_eq!(Asset::Usdc.cost(usage(20, 0)), 1);
        assert_eq!(Asset::Usdc.cost(usage(0, 0)), 0);
    }
}
