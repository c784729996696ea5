//! Register the gateway's enclave, and retire those of earlier starts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use og_client::register::{EnclaveEvidence, submit};
use og_client::{Chain, registry};
use og_contracts::ITEERegistry;
use og_gateway::GatewayHandle;

use crate::accounts::ServiceAccounts;

/// How long the registry may take to list exactly the live gateway.
const LISTED_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the registry is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The operator: owns the gateways and speaks to the registry.
#[derive(Debug)]
pub(crate) struct Operator {
    chain: Chain,
    owner: Address,
    payee: Address,
    registry: Address,
}

impl Operator {
    pub(crate) fn new(
        rpc_url: &str,
        services: &ServiceAccounts,
        registry: Address,
    ) -> Result<Self> {
        let signer = services.operator.signer.clone();
        Ok(Self {
            chain: Chain::connect_with_wallet("OpenGradient", rpc_url, signer)?,
            owner: services.operator.address(),
            payee: services.payee.address(),
            registry,
        })
    }

    /// Disables every enabled enclave that the operator owns: their processes are gone.
    pub(crate) async fn retire_earlier(&self) -> Result<()> {
        let owned = ITEERegistry::getTEEsByOwnerCall { owner: self.owner };
        for tee_id in self.chain.call(self.registry, &owned).await? {
            let enabled = ITEERegistry::isTEEEnabledCall { teeId: tee_id };
            if self.chain.call(self.registry, &enabled).await? {
                self.chain
                    .send(self.registry, &ITEERegistry::disableTEECall { teeId: tee_id })
                    .await?;
            }
        }
        Ok(())
    }

    /// Registers the gateway by evidence that is bound to the operator, the payee and the endpoint.
    pub(crate) async fn register(&self, gateway: &GatewayHandle, endpoint: &str) -> Result<()> {
        let identity = gateway.identity();
        let evidence = EnclaveEvidence {
            document: gateway.registration_evidence()?.context("the gateway has no owner")?,
            signing_key: identity.signing_key_der.clone(),
            tls_certificate: identity.tls_certificate_der.clone(),
        };
        submit(&self.chain, self.registry, &evidence, self.payee, endpoint)
            .await
            .context("registering the gateway")?;
        Ok(())
    }

    /// Waits until the registry lists exactly the live gateway.
    pub(crate) async fn await_listing(&self, gateway: &GatewayHandle) -> Result<()> {
        let live = BTreeSet::from([gateway.identity().tee_id]);
        let begun = Instant::now();
        loop {
            let listed = registry::active_gateways(&self.chain, self.registry).await;
            let listed: BTreeSet<_> =
                listed.unwrap_or_default().iter().map(|gateway| gateway.tee_id).collect();
            if listed == live {
                return Ok(());
            }
            if begun.elapsed() > LISTED_TIMEOUT {
                bail!("the registry lists {} enclaves, not exactly the live one", listed.len());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
