//! Answer who this node is, what waits in its pool, and what proves its blocks final.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64, keccak256};
use alloy_rpc_types_eth::Transaction;
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::{At, Genesis};
use og_pool::Place;
use serde::Serialize;

use super::{args::Args, backend::Backend, convert, error};

type Answer<T> = Result<T, ErrorObjectOwned>;

/// Most headers from a block to the descendant whose certificate finalises it, both included: what
/// `og-light` accepts.
const CERTIFICATE_HEADERS_MAX: u64 = 1_024;

pub(super) fn chain_id(node: &Backend, _: &mut Args<'_>) -> Answer<U64> {
    Ok(U64::from(node.chain.chain_id()))
}

pub(super) fn net_version(node: &Backend, _: &mut Args<'_>) -> Answer<String> {
    Ok(node.chain.chain_id().to_string())
}

pub(super) fn net_listening(_: &Backend, _: &mut Args<'_>) -> Answer<bool> {
    Ok(true)
}

pub(super) fn client_version(_: &Backend, _: &mut Args<'_>) -> Answer<String> {
    Ok(format!("OpenGradient/v{}/rust", env!("CARGO_PKG_VERSION")))
}

pub(super) fn sha3(_: &Backend, args: &mut Args<'_>) -> Answer<B256> {
    let bytes: Bytes = args.next()?;
    Ok(keccak256(bytes))
}

/// The node holds no keys.
pub(super) fn accounts(_: &Backend, _: &mut Args<'_>) -> Answer<Vec<Address>> {
    Ok(Vec::new())
}

/// The node shows only what is final, so it is never half-way.
pub(super) fn syncing(_: &Backend, _: &mut Args<'_>) -> Answer<bool> {
    Ok(false)
}

/// The answer of `txpool_status`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PoolStatus {
    pending: U64,
    queued: U64,
}

pub(super) fn pool_status(node: &Backend, _: &mut Args<'_>) -> Answer<PoolStatus> {
    let status = node.mempool.status();
    Ok(PoolStatus { pending: U64::from(status.pending), queued: U64::from(status.queued) })
}

/// Transactions by sender and, in decimal, by nonce.
type BySender = BTreeMap<Address, BTreeMap<String, Transaction>>;

/// The answer of `txpool_content`.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct PoolContent {
    pending: BySender,
    queued: BySender,
}

pub(super) fn pool_content(node: &Backend, _: &mut Args<'_>) -> Answer<PoolContent> {
    let mut content = PoolContent::default();
    for (place, tx) in node.mempool.content() {
        let senders = match place {
            Place::Pending => &mut content.pending,
            Place::Queued => &mut content.queued,
        };
        let nonce = alloy_consensus::Transaction::nonce(tx.inner()).to_string();
        senders.entry(tx.signer()).or_default().insert(nonce, convert::waiting(&tx));
    }
    Ok(content)
}

/// The answer of `og_getFinalityCertificate`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finality {
    /// The block asked for.
    height: U64,
    block_hash: B256,
    /// The block that the certificate names: the same, or a descendant.
    certified_height: U64,
    certified_hash: B256,
    /// Encoded finalization of the consensus engine.
    certificate: Bytes,
    /// RLP headers from the certified block down to the block asked for, both included.
    headers: Vec<Bytes>,
}

/// What a verifier with the validators' keys needs to accept a block as final; `null` for a block
/// that is not final, or whose chain has no certificates.
pub(super) fn finality_certificate(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<Finality>> {
    let height: U64 = args.next()?;
    let height: u64 = height.to();
    if height > node.chain.head().number {
        return Ok(None);
    }
    let found = node.chain.certificate_at_or_after(height).map_err(error::chain)?;
    let Some((certified, certificate)) = found else { return Ok(None) };
    if certified - height >= CERTIFICATE_HEADERS_MAX {
        return Err(error::limit_exceeded(format!(
            "the certified descendant is {} blocks away; at most {CERTIFICATE_HEADERS_MAX}",
            certified - height
        )));
    }
    let mut headers = Vec::new();
    let (mut certified_hash, mut block_hash) = (B256::ZERO, B256::ZERO);
    for number in (height..=certified).rev() {
        let header = node.chain.header(At::Number(number)).map_err(error::chain)?;
        let Some((hash, header)) = header else {
            return Err(error::internal(format!("block {number} is missing")));
        };
        if number == certified {
            certified_hash = hash;
        }
        block_hash = hash;
        headers.push(alloy_rlp::encode(&header).into());
    }
    Ok(Some(Finality {
        height: U64::from(height),
        block_hash,
        certified_height: U64::from(certified),
        certified_hash,
        certificate,
        headers,
    }))
}

/// The answer of `og_getGenesis`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenesisAnswer {
    genesis_hash: B256,
    /// Everything that the hash commits to.
    genesis: Genesis,
}

pub(super) fn genesis(node: &Backend, _: &mut Args<'_>) -> Answer<GenesisAnswer> {
    Ok(GenesisAnswer {
        genesis_hash: node.chain.genesis_hash(),
        genesis: node.chain.genesis().clone(),
    })
}

/// The validators' public keys in seat order, for display: who verifies brings keys of their own.
pub(super) fn validators(node: &Backend, _: &mut Args<'_>) -> Answer<Vec<Bytes>> {
    Ok(node.validators.clone())
}
