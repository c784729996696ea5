//! Serve Ethereum JSON-RPC over HTTP and WebSocket on one port.
//!
//! Everything shown is final: `latest`, `safe`, `finalized` and (but for nonces) `pending` name the
//! same block, and no answer is ever taken back.

mod args;
mod backend;
mod convert;
mod error;
mod execute;
mod filter;
mod network;
mod read;
mod subscription;

use std::{net::SocketAddr, sync::Arc};

use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    server::{BatchRequestConfig, PingConfig, Server, ServerConfig, ServerHandle},
    types::ErrorObjectOwned,
};
use serde::{Deserialize, Serialize};
use tower_http::cors::CorsLayer;

use self::args::Args;
pub(crate) use self::{backend::Backend, filter::Filters};

/// How the RPC server listens, and what it lets one client take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Address to bind; port 0 takes a free one. There is no authentication: keep it on loopback or
    /// behind a proxy.
    pub listen: SocketAddr,
    /// Longest request body or WebSocket message in bytes.
    pub request_bytes_max: u32,
    /// Longest answer in bytes.
    pub response_bytes_max: u32,
    /// Most requests in one batch.
    pub batch_max: u32,
    /// Most connections at once.
    pub connections_max: u32,
    /// Most subscriptions of one connection.
    pub subscriptions_max: u32,
    /// Most requests that execute or read at the same moment; others wait their turn.
    pub workers: usize,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            request_bytes_max: 4 * 1024 * 1024,
            response_bytes_max: 32 * 1024 * 1024,
            batch_max: 1_000,
            connections_max: 512,
            subscriptions_max: 128,
            workers: 16,
        }
    }
}

/// Binds and serves; the handle stops it.
pub(crate) async fn serve(
    config: &RpcConfig,
    backend: Arc<Backend>,
) -> std::io::Result<(SocketAddr, ServerHandle)> {
    let server_config = ServerConfig::builder()
        .max_request_body_size(config.request_bytes_max)
        .max_response_body_size(config.response_bytes_max)
        .max_connections(config.connections_max)
        .max_subscriptions_per_connection(config.subscriptions_max)
        .set_batch_request_config(BatchRequestConfig::Limit(config.batch_max))
        .enable_ws_ping(PingConfig::new())
        .set_id_provider(subscription::HexIds::default())
        .set_tcp_no_delay(true)
        .build();
    // Reading is open to web pages: the node holds no keys and no cookies.
    let http = tower::ServiceBuilder::new().layer(CorsLayer::permissive());
    let server = Server::builder()
        .set_config(server_config)
        .set_http_middleware(http)
        .build(config.listen)
        .await?;
    let address = server.local_addr()?;
    let module = methods(backend).map_err(std::io::Error::other)?;
    Ok((address, server.start(module)))
}

type Method<T> = fn(&Backend, &mut Args<'_>) -> Result<T, ErrorObjectOwned>;

fn methods(backend: Arc<Backend>) -> Result<RpcModule<Backend>, RegisterMethodError> {
    let mut module = RpcModule::from_arc(backend);
    let m = &mut module;
    method(m, "web3_clientVersion", network::client_version)?;
    method(m, "web3_sha3", network::sha3)?;
    method(m, "net_version", network::net_version)?;
    method(m, "net_listening", network::net_listening)?;
    method(m, "eth_chainId", network::chain_id)?;
    method(m, "eth_accounts", network::accounts)?;
    method(m, "eth_syncing", network::syncing)?;
    method(m, "txpool_status", network::pool_status)?;
    method(m, "txpool_content", network::pool_content)?;
    method(m, "og_getFinalityCertificate", network::finality_certificate)?;
    method(m, "og_getGenesis", network::genesis)?;
    method(m, "og_validators", network::validators)?;

    method(m, "eth_blockNumber", read::block_number)?;
    method(m, "eth_getBlockByNumber", read::block_by_number)?;
    method(m, "eth_getBlockByHash", read::block_by_hash)?;
    method(m, "eth_getBlockTransactionCountByNumber", read::transaction_count_by_number)?;
    method(m, "eth_getBlockTransactionCountByHash", read::transaction_count_by_hash)?;
    method(m, "eth_getUncleCountByBlockNumber", read::uncle_count)?;
    method(m, "eth_getUncleCountByBlockHash", read::uncle_count)?;
    method(m, "eth_getTransactionByHash", read::transaction_by_hash)?;
    method(m, "eth_getTransactionByBlockNumberAndIndex", read::transaction_by_number_and_index)?;
    method(m, "eth_getTransactionByBlockHashAndIndex", read::transaction_by_hash_and_index)?;
    method(m, "eth_getTransactionReceipt", read::transaction_receipt)?;
    method(m, "eth_getBlockReceipts", read::block_receipts)?;
    method(m, "eth_getBalance", read::balance)?;
    method(m, "eth_getCode", read::code)?;
    method(m, "eth_getStorageAt", read::storage)?;
    method(m, "eth_getTransactionCount", read::transaction_count)?;
    method(m, "eth_getProof", read::proof)?;

    method(m, "eth_call", execute::call)?;
    method(m, "eth_estimateGas", execute::estimate_gas)?;
    method(m, "eth_createAccessList", execute::create_access_list)?;
    method(m, "eth_gasPrice", execute::gas_price)?;
    method(m, "eth_maxPriorityFeePerGas", execute::max_priority_fee)?;
    method(m, "eth_feeHistory", execute::fee_history)?;
    method(m, "eth_sendRawTransaction", execute::send_raw_transaction)?;
    m.register_async_method("eth_sendRawTransactionSync", |params, node, _| async move {
        let (bytes, timeout_ms) = {
            let mut args = Args::new(&params);
            (args.next()?, args.optional()?)
        };
        execute::send_raw_transaction_sync(node, bytes, timeout_ms).await
    })?;

    method(m, "eth_getLogs", filter::logs)?;
    method(m, "eth_newFilter", filter::new_filter)?;
    method(m, "eth_newBlockFilter", filter::new_block_filter)?;
    method(m, "eth_newPendingTransactionFilter", filter::new_pending_filter)?;
    method(m, "eth_getFilterChanges", filter::changes)?;
    method(m, "eth_getFilterLogs", filter::filter_logs)?;
    method(m, "eth_uninstallFilter", filter::uninstall)?;
    m.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, node, _| subscription::serve(params, pending, node),
    )?;
    Ok(module)
}

/// Registers a method that may read disks and execute, on the blocking threads and within the limit.
fn method<T: Serialize + Clone + Send + 'static>(
    module: &mut RpcModule<Backend>,
    name: &'static str,
    answer: Method<T>,
) -> Result<(), RegisterMethodError> {
    module.register_async_method(name, move |params, node: Arc<Backend>, _| async move {
        let _turn = node.workers.acquire().await.map_err(error::internal)?;
        let working = node.clone();
        tokio::task::spawn_blocking(move || answer(&working, &mut Args::new(&params)))
            .await
            .map_err(error::internal)?
    })?;
    Ok(())
}
