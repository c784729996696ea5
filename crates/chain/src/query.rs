//! Answer what RPC asks about blocks, transactions and state.

use std::sync::Arc;

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, Transaction, TxEnvelope};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U256};

use crate::chain::Chain;
use crate::error::{Error, TxError};
use crate::evm::{config, intrinsic_gas, tx_env};
use crate::executed::{ExecutedBlock, TxOutcome};
use crate::produce::{cost_max, next_base_fee};
use crate::state::{AccountState, EMPTY_CODE_HASH, View};
use crate::trie::{AccountProof, prove};

/// The most blocks one fee history covers.
pub const FEE_BLOCKS_MAX: u64 = 1024;

/// Which block a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The last finalised block; the tags `latest`, `safe` and `finalized`.
    Latest,
    /// The longest chain of blocks that wait for finality; the last finalised block when none does.
    Pending,
    /// The genesis block.
    Earliest,
    /// The finalised block at this height.
    Number(u64),
    /// The finalised or pending block of this hash.
    Hash(B256),
}

impl From<BlockNumberOrTag> for At {
    fn from(tag: BlockNumberOrTag) -> Self {
        match tag {
            BlockNumberOrTag::Number(number) => Self::Number(number),
            BlockNumberOrTag::Earliest => Self::Earliest,
            BlockNumberOrTag::Pending => Self::Pending,
            BlockNumberOrTag::Latest | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized => {
                Self::Latest
            }
        }
    }
}

impl From<BlockId> for At {
    fn from(id: BlockId) -> Self {
        match id {
            BlockId::Hash(hash) => Self::Hash(hash.block_hash),
            BlockId::Number(tag) => tag.into(),
        }
    }
}

/// A transaction of a finalised block.
#[derive(Clone, Debug)]
pub struct TransactionAt {
    /// Its block.
    pub block: Arc<ExecutedBlock>,
    /// Its place in the block.
    pub index: usize,
}

impl TransactionAt {
    /// The transaction with its sender.
    pub fn transaction(&self) -> Option<Recovered<&TxEnvelope>> {
        self.block.transaction(self.index)
    }

    /// What came of it.
    pub fn outcome(&self) -> Option<&TxOutcome> {
        self.block.outcomes.get(self.index)
    }
}

/// What a fee history says about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeBlock {
    /// Height.
    pub number: u64,
    /// Base fee, wei.
    pub base_fee: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Tip per gas and gas used of each transaction, by ascending tip.
    pub tips: Vec<(u128, u64)>,
}

impl Chain {
    /// The state after a block, and the block.
    pub(crate) fn resolve(&self, at: At) -> Result<Option<(View, Arc<ExecutedBlock>)>, Error> {
        match at {
            At::Latest => self.view_of(self.head().hash),
            At::Pending => self.view_of(self.tip()),
            At::Earliest => self.view_of_number(0),
            At::Number(number) => self.view_of_number(number),
            At::Hash(hash) => self.view_of(hash),
        }
    }

    fn state(&self, at: At) -> Result<(View, Arc<ExecutedBlock>), Error> {
        self.resolve(at)?.ok_or(Error::UnknownBlock)
    }

    /// A block with senders and receipts; `None` when it is not there.
    ///
    /// # Errors
    /// When the database fails.
    pub fn block(&self, at: At) -> Result<Option<Arc<ExecutedBlock>>, Error> {
        Ok(self.resolve(at)?.map(|(_, block)| block))
    }

    /// A block's hash and header; `None` when it is not there.
    ///
    /// # Errors
    /// When the database fails.
    pub fn header(&self, at: At) -> Result<Option<(B256, Header)>, Error> {
        let tables = self.tables();
        let number = match at {
            At::Number(number) => number,
            At::Earliest => 0,
            _ => {
                let block = self.block(at)?;
                return Ok(block.map(|block| (block.hash, block.header().clone())));
            }
        };
        match (tables.hash_of(number)?, tables.header(number)?) {
            (Some(hash), Some(header)) => Ok(Some((hash, header))),
            _ => Ok(None),
        }
    }

    /// Hash of the finalised block at a height.
    ///
    /// # Errors
    /// When the database fails.
    pub fn canonical_hash(&self, number: u64) -> Result<Option<B256>, Error> {
        self.tables().hash_of(number)
    }

    /// Height of a finalised block.
    ///
    /// # Errors
    /// When the database fails.
    pub fn number_of(&self, hash: B256) -> Result<Option<u64>, Error> {
        self.tables().number_of(hash)
    }

    /// A transaction of a finalised block by its hash.
    ///
    /// # Errors
    /// When the database fails.
    pub fn transaction(&self, hash: B256) -> Result<Option<TransactionAt>, Error> {
        let tables = self.tables();
        let Some((number, index)) = tables.transaction(hash)? else { return Ok(None) };
        let block = tables.block(number)?.ok_or_else(|| Error::corrupt("a finalised block"))?;
        Ok(Some(TransactionAt { block: Arc::new(block), index }))
    }

    /// An account; `None` when it does not exist (EIP-161).
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn account(&self, address: Address, at: At) -> Result<Option<AccountState>, Error> {
        self.state(at)?.0.account(address)
    }

    /// An account's next nonce.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn nonce(&self, address: Address, at: At) -> Result<u64, Error> {
        Ok(self.account(address, at)?.map_or(0, |account| account.nonce))
    }

    /// An account's balance, wei.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn balance(&self, address: Address, at: At) -> Result<U256, Error> {
        Ok(self.account(address, at)?.map_or(U256::ZERO, |account| account.balance))
    }

    /// An account's code.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn code(&self, address: Address, at: At) -> Result<Bytes, Error> {
        let (view, _) = self.state(at)?;
        match view.account(address)? {
            Some(account) => view.code(account.code_hash),
            None => Ok(Bytes::new()),
        }
    }

    /// A storage slot's value.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn storage(&self, address: Address, slot: B256, at: At) -> Result<B256, Error> {
        Ok(self.state(at)?.0.storage(address, slot.into())?.into())
    }

    /// Merkle proof of an account and slots against the block's state root (EIP-1186).
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn proof(&self, address: Address, slots: &[B256], at: At) -> Result<AccountProof, Error> {
        let (view, block) = self.state(at)?;
        prove(&view, block.header().state_root, address, slots)
    }

    /// Base fee of the block after this one, wei.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn next_base_fee(&self, at: At) -> Result<u64, Error> {
        let (_, block) = self.state(at)?;
        Ok(next_base_fee(block.header(), self.genesis().base_fee_floor))
    }

    /// Fees of up to `count` finalised blocks that end with `newest`, by ascending height.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`], or when the database fails.
    pub fn fee_history(&self, newest: At, count: u64) -> Result<Vec<FeeBlock>, Error> {
        let (_, last) = self.state(newest)?;
        let last_number = last.number().min(self.head().number);
        let count = count.min(FEE_BLOCKS_MAX).min(last_number.saturating_add(1));
        let tables = self.tables();
        let mut history = Vec::new();
        for number in (last_number.saturating_add(1).saturating_sub(count))..=last_number {
            if count == 0 {
                break;
            }
            let block = tables.block(number)?.ok_or_else(|| Error::corrupt("a finalised block"))?;
            history.push(fees_of(&block));
        }
        Ok(history)
    }

    /// What a pool or an RPC server asks before it takes a transaction: everything that cannot become right by
    /// waiting for other transactions. A nonce above the account's next one is no error here.
    ///
    /// # Errors
    /// The outer error is ours, the inner one says why the transaction can never be in a block as things stand.
    pub fn check_transaction(
        &self,
        tx: &Recovered<TxEnvelope>,
    ) -> Result<Result<(), TxError>, Error> {
        let (view, _) = self.state(At::Latest)?;
        let account = view.account(tx.signer())?.unwrap_or_default();
        let code = view.code(account.code_hash)?;
        Ok(self.judge(tx.inner(), tx.signer(), &account, &code))
    }

    fn judge(
        &self,
        tx: &TxEnvelope,
        sender: Address,
        account: &AccountState,
        code: &[u8],
    ) -> Result<(), TxError> {
        let genesis = self.genesis();
        let env = tx_env(tx, sender)?;
        if tx.chain_id().is_some_and(|id| id != genesis.chain_id) {
            return Err(TxError::WrongChain { expected: genesis.chain_id });
        }
        let (gas_limit, block_gas_limit) = (tx.gas_limit(), genesis.gas_limit);
        if gas_limit > block_gas_limit {
            return Err(TxError::GasLimitAboveBlock { gas_limit, block_gas_limit });
        }
        let limits = config(genesis.chain_id);
        let init_code_max = revm::context_interface::Cfg::max_initcode_size(&limits);
        if tx.to().is_none() && tx.input().len() > init_code_max {
            return Err(TxError::InitCodeTooLarge);
        }
        let needed = intrinsic_gas(&env);
        if gas_limit < needed {
            return Err(TxError::IntrinsicGas { gas_limit, needed });
        }
        if tx.max_priority_fee_per_gas().is_some_and(|tip| tip > tx.max_fee_per_gas()) {
            return Err(TxError::TipAboveFeeCap);
        }
        // Below the floor no future block can take it; below today's base fee one may.
        if tx.max_fee_per_gas() < u128::from(genesis.base_fee_floor) {
            return Err(TxError::FeeCapBelowBaseFee { base_fee: genesis.base_fee_floor });
        }
        if tx.authorization_list().is_some_and(|list| list.is_empty()) {
            return Err(TxError::EmptyAuthorizationList);
        }
        if account.code_hash != EMPTY_CODE_HASH && !is_delegation(code) {
            return Err(TxError::SenderIsContract);
        }
        if tx.nonce() == u64::MAX {
            return Err(TxError::NonceExhausted);
        }
        if tx.nonce() < account.nonce {
            return Err(TxError::NonceTooLow { tx: tx.nonce(), state: account.nonce });
        }
        let want = cost_max(tx).ok_or(TxError::CostOverflow)?;
        if want > account.balance {
            return Err(TxError::InsufficientFunds { have: account.balance, want });
        }
        Ok(())
    }
}

/// Whether code is an EIP-7702 delegation, whose account may still send transactions.
fn is_delegation(code: &[u8]) -> bool {
    code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00])
}

fn fees_of(block: &ExecutedBlock) -> FeeBlock {
    let header = block.header();
    let base_fee = header.base_fee_per_gas.unwrap_or_default();
    let mut tips: Vec<(u128, u64)> = block
        .outcomes
        .iter()
        .map(|outcome| {
            let tip = outcome.effective_gas_price.saturating_sub(u128::from(base_fee));
            (tip, outcome.gas_used)
        })
        .collect();
    tips.sort_unstable();
    FeeBlock {
        number: header.number,
        base_fee,
        gas_used: header.gas_used,
        gas_limit: header.gas_limit,
        tips,
    }
}
