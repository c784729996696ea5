//! Ask a chain over JSON-RPC.

use std::time::Duration;

use alloy_consensus::Transaction as _;
use alloy_eips::BlockId;
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::{EthereumWallet, TransactionBuilder as _};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::{DynProvider, Provider, ProviderBuilder};
use alloy_rpc_types_eth::{
    EIP1186AccountProofResponse, Filter, Log, Transaction, TransactionReceipt, TransactionRequest,
};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolCall;

use crate::Error;

/// How often a receipt is asked for. Blocks are final well within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One chain, asked over JSON-RPC; with a wallet it also sends transactions.
#[derive(Clone, Debug)]
pub struct Chain {
    name: &'static str,
    provider: DynProvider,
}

impl Chain {
    /// A chain to read from. `name` stands in error messages.
    ///
    /// # Errors
    /// [`Error::Chain`] when the URL is not one.
    pub fn connect(name: &'static str, rpc_url: &str) -> Result<Self, Error> {
        let url = rpc_url.parse().map_err(|error| failed(name, "reading its URL", error))?;
        let provider = ProviderBuilder::new().connect_http(url).erased();
        provider.client().set_poll_interval(POLL_INTERVAL);
        Ok(Self { name, provider })
    }

    /// A chain to read from and to send to, with transactions signed by `signer`.
    ///
    /// # Errors
    /// [`Error::Chain`] when the URL is not one.
    pub fn connect_with_wallet(
        name: &'static str,
        rpc_url: &str,
        signer: PrivateKeySigner,
    ) -> Result<Self, Error> {
        let url = rpc_url.parse().map_err(|error| failed(name, "reading its URL", error))?;
        let wallet = EthereumWallet::new(signer);
        let provider = ProviderBuilder::new().wallet(wallet).connect_http(url).erased();
        provider.client().set_poll_interval(POLL_INTERVAL);
        Ok(Self { name, provider })
    }

    /// The JSON-RPC provider, for what this type has no word for.
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Calls a view at the latest block.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer, the call reverts, or the answer is of another shape.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, Error> {
        let request =
            TransactionRequest::default().with_to(to).with_input(Bytes::from(call.abi_encode()));
        let output = self
            .provider
            .call(request)
            .await
            .map_err(|error| failed(self.name, C::SIGNATURE, error))?;
        C::abi_decode_returns(&output).map_err(|error| failed(self.name, C::SIGNATURE, error))
    }

    /// Calls a view at a block that is past or present.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub async fn call_at<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: u64,
    ) -> Result<C::Return, Error> {
        let request =
            TransactionRequest::default().with_to(to).with_input(Bytes::from(call.abi_encode()));
        let output = self
            .provider
            .call(request)
            .block(BlockId::number(block))
            .await
            .map_err(|error| failed(self.name, C::SIGNATURE, error))?;
        C::abi_decode_returns(&output).map_err(|error| failed(self.name, C::SIGNATURE, error))
    }

    /// The number of the latest block.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer.
    pub async fn block_number(&self) -> Result<u64, Error> {
        let number = self.provider.get_block_number().await;
        number.map_err(|error| failed(self.name, "eth_blockNumber", error))
    }

    /// All receipts of a block, in order.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer or has no such block.
    pub async fn block_receipts(&self, block: u64) -> Result<Vec<TransactionReceipt>, Error> {
        let receipts = self.provider.get_block_receipts(BlockId::number(block)).await;
        receipts
            .map_err(|error| failed(self.name, "eth_getBlockReceipts", error))?
            .ok_or_else(|| failed(self.name, "eth_getBlockReceipts", format!("no block {block}")))
    }

    /// Input of a transaction.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer or has no such transaction.
    pub async fn transaction_input(&self, hash: B256) -> Result<Bytes, Error> {
        Ok(self.transaction(hash).await?.input().clone())
    }

    /// A transaction in its signed EIP-2718 encoding.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer or has no such transaction.
    pub async fn raw_transaction(&self, hash: B256) -> Result<Bytes, Error> {
        let transaction = self.transaction(hash).await?;
        Ok(transaction.inner.inner().encoded_2718().into())
    }

    async fn transaction(&self, hash: B256) -> Result<Transaction, Error> {
        let transaction = self.provider.get_transaction_by_hash(hash).await;
        transaction
            .map_err(|error| failed(self.name, "eth_getTransactionByHash", error))?
            .ok_or_else(|| failed(self.name, "eth_getTransactionByHash", format!("no {hash}")))
    }

    /// Sends a call as a transaction and waits for its receipt; a reverted one is an error.
    ///
    /// # Errors
    /// [`Error::Chain`] when it is refused, reverts, or its receipt does not come.
    pub async fn send<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<TransactionReceipt, Error> {
        let request =
            TransactionRequest::default().with_to(to).with_input(Bytes::from(call.abi_encode()));
        self.send_request(C::SIGNATURE, request).await
    }

    /// Sends native coin and waits for the receipt.
    ///
    /// # Errors
    /// As [`Chain::send`].
    pub async fn transfer(&self, to: Address, value: U256) -> Result<TransactionReceipt, Error> {
        let request = TransactionRequest::default().with_to(to).with_value(value);
        self.send_request("transfer", request).await
    }

    async fn send_request(
        &self,
        operation: &'static str,
        request: TransactionRequest,
    ) -> Result<TransactionReceipt, Error> {
        let pending = self
            .provider
            .send_transaction(request)
            .await
            .map_err(|error| failed(self.name, operation, error))?;
        let receipt =
            pending.get_receipt().await.map_err(|error| failed(self.name, operation, error))?;
        if receipt.status() {
            Ok(receipt)
        } else {
            let reason = format!("transaction {} reverted", receipt.transaction_hash);
            Err(failed(self.name, operation, reason))
        }
    }

    /// Logs that match a filter.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Error> {
        let logs = self.provider.get_logs(filter).await;
        logs.map_err(|error| failed(self.name, "eth_getLogs", error))
    }

    /// Native balance at the latest block, in wei.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer.
    pub async fn balance(&self, account: Address) -> Result<U256, Error> {
        let balance = self.provider.get_balance(account).await;
        balance.map_err(|error| failed(self.name, "eth_getBalance", error))
    }

    /// Merkle proof of an account and some of its slots at a block.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer.
    pub async fn proof(
        &self,
        account: Address,
        slots: Vec<B256>,
        block: BlockId,
    ) -> Result<EIP1186AccountProofResponse, Error> {
        let proof = self.provider.get_proof(account, slots).block_id(block).await;
        proof.map_err(|error| failed(self.name, "eth_getProof", error))
    }

    /// Calls a method that is not Ethereum's.
    ///
    /// # Errors
    /// [`Error::Chain`] when the chain does not answer or answers something else.
    pub async fn raw<R>(
        &self,
        method: &'static str,
        parameters: serde_json::Value,
    ) -> Result<R, Error>
    where
        R: serde::de::DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static,
    {
        let answer = self.provider.raw_request::<_, R>(method.into(), parameters).await;
        answer.map_err(|error| failed(self.name, method, error))
    }
}

/// An error of a chain, with what was asked of it.
pub(crate) fn failed(
    chain: &'static str,
    operation: &'static str,
    reason: impl std::fmt::Display,
) -> Error {
    Error::Chain { chain, operation, reason: reason.to_string() }
}
