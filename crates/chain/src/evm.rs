//! Run transactions on revm under Osaka rules.
//!
//! Differences from mainnet, all deliberate: no per-transaction gas cap (EIP-7825; official clients send 30 M gas),
//! no blobs, and the native precompiles of [`crate::precompile`].

use std::sync::Arc;

use alloy_consensus::{Header, Transaction, TxEnvelope, Typed2718};
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, U256};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, Evm, Journal, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::either::Either;
use revm::handler::EthFrame;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::interpreter::EthInterpreter;
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use revm::{ExecuteEvm, SystemCallEvm};

use crate::error::{Error, TxError};
use crate::precompile::{Native, Precompiles};
use crate::state::Workspace;

/// The rules that every block follows.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

type Environment<'a> =
    Context<BlockEnv, TxEnv, CfgEnv, &'a mut Workspace, Journal<&'a mut Workspace>>;
type Machine<'a> = Evm<
    Environment<'a>,
    (),
    EthInstructions<EthInterpreter, Environment<'a>>,
    Precompiles,
    EthFrame<EthInterpreter>,
>;

/// Executes transactions of one block, one after the other, on one workspace.
pub(crate) struct Executor<'a> {
    machine: Machine<'a>,
}

/// What is loosened when nothing is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A transaction in a block.
    Block,
    /// A call or an estimate: any sender, any gas up to the caller's cap, no nonce.
    Call,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(
        workspace: &'a mut Workspace,
        header: &Header,
        chain_id: u64,
        native: Arc<Native>,
        mode: Mode,
    ) -> Self {
        let mut cfg = config(chain_id);
        if mode == Mode::Call {
            cfg.disable_block_gas_limit = true;
            cfg.disable_eip3607 = true;
            cfg.disable_nonce_check = true;
            cfg.tx_chain_id_check = false;
        }
        let mut ctx: Environment<'a> = Context::new(workspace, SPEC);
        ctx.block = block_env(header);
        ctx.cfg = cfg;
        let machine =
            Evm::new(ctx, EthInstructions::new_mainnet_with_spec(SPEC), Precompiles::new(native));
        Self { machine }
    }

    /// EIP-2935: tells the history contract the parent's hash, before any transaction.
    pub(crate) fn record_parent(&mut self, parent: B256) -> Result<(), Error> {
        let done = self
            .machine
            .system_call(HISTORY_STORAGE_ADDRESS, parent.to_vec().into())
            .map_err(|failure| internal(&failure))?;
        if !done.result.is_success() {
            return Err(Error::Evm(format!("the EIP-2935 call failed: {:?}", done.result)));
        }
        self.apply(done.state);
        Ok(())
    }

    /// Runs a transaction and gives its result and what it would change.
    pub(crate) fn run(&mut self, tx: TxEnv) -> Result<Ran, Failure> {
        match self.machine.transact(tx) {
            Ok(done) => Ok(Ran { result: done.result, state: done.state }),
            Err(EVMError::Transaction(reason)) => {
                Err(Failure::Rejected(rejection(reason, &self.machine.ctx)))
            }
            Err(EVMError::Database(source)) => Err(Failure::Internal(source)),
            Err(other) => Err(Failure::Internal(internal(&other))),
        }
    }

    /// Keeps what a transaction changed for those after it.
    pub(crate) fn apply(&mut self, state: EvmState) {
        self.machine.ctx.journaled_state.database.apply(state);
    }
}

/// What running a transaction gave.
pub(crate) struct Ran {
    pub(crate) result: ExecutionResult,
    pub(crate) state: EvmState,
}

/// Why a transaction was not run.
pub(crate) enum Failure {
    Rejected(TxError),
    Internal(Error),
}

impl From<Error> for Failure {
    fn from(source: Error) -> Self {
        Self::Internal(source)
    }
}

/// The configuration of a block's execution.
pub(crate) fn config(chain_id: u64) -> CfgEnv {
    let mut cfg = CfgEnv::new_with_spec(SPEC).with_chain_id(chain_id);
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    cfg
}

fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        // There is no beacon randomness; contracts read zero rather than something a proposer chooses.
        prevrandao: Some(B256::ZERO),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new_with_spec(0, SPEC)),
        slot_num: 0,
    }
}

/// A signed transaction as revm takes it; refuses the one type this chain does not have.
pub(crate) fn tx_env(tx: &TxEnvelope, sender: Address) -> Result<TxEnv, TxError> {
    if tx.is_eip4844() {
        return Err(TxError::BlobsUnsupported);
    }
    Ok(TxEnv {
        tx_type: tx.ty(),
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: tx
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
    })
}

/// Gas that a transaction pays before anything runs: the larger of intrinsic and floor gas (EIP-7623).
pub(crate) fn intrinsic_gas(tx: &TxEnv) -> u64 {
    let gas = config(0).gas_params.initial_tx_gas_for_tx(tx, None);
    gas.initial_total_gas().max(gas.floor_gas())
}

fn internal(failure: &EVMError<Error>) -> Error {
    Error::Evm(match failure {
        EVMError::Database(source) => source.to_string(),
        other => format!("{other:?}"),
    })
}

fn rejection(reason: InvalidTransaction, ctx: &Environment<'_>) -> TxError {
    let base_fee = ctx.block.basefee;
    match reason {
        InvalidTransaction::InvalidChainId | InvalidTransaction::MissingChainId => {
            TxError::WrongChain { expected: ctx.cfg.chain_id }
        }
        InvalidTransaction::CallerGasLimitMoreThanBlock => TxError::GasLimitAboveBlock {
            gas_limit: ctx.tx.gas_limit,
            block_gas_limit: ctx.block.gas_limit,
        },
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => TxError::TipAboveFeeCap,
        InvalidTransaction::GasPriceLessThanBasefee => TxError::FeeCapBelowBaseFee { base_fee },
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas: needed, gas_limit }
        | InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor: needed, gas_limit } => {
            TxError::IntrinsicGas { gas_limit, needed }
        }
        InvalidTransaction::RejectCallerWithCode => TxError::SenderIsContract,
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            TxError::InsufficientFunds { have: *balance, want: *fee }
        }
        InvalidTransaction::OverflowPaymentInTransaction => TxError::CostOverflow,
        InvalidTransaction::NonceOverflowInTransaction => TxError::NonceExhausted,
        InvalidTransaction::NonceTooHigh { tx, state } => TxError::NonceTooHigh { tx, state },
        InvalidTransaction::NonceTooLow { tx, state } => TxError::NonceTooLow { tx, state },
        InvalidTransaction::CreateInitCodeSizeLimit => TxError::InitCodeTooLarge,
        InvalidTransaction::EmptyAuthorizationList => TxError::EmptyAuthorizationList,
        other => TxError::Invalid(other.to_string()),
    }
}
