//! Run what is not sent: calls, gas estimates, access lists.
//!
//! Calls and estimates run in the named block's environment, with one difference: at the last finalised block and
//! above, time is the later of the block's and the caller's clock, since a transaction sent now would see it so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_consensus::Header;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy_sol_types::{Panic, Revert, SolError};
use revm::bytecode::Bytecode;
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context_interface::either::Either;
use revm::state::EvmState;

use crate::chain::Chain;
use crate::error::{CallError, Error, TxError};
use crate::evm::{Executor, Failure, Mode, Ran, intrinsic_gas};
use crate::precompile::is_precompile;
use crate::query::At;
use crate::state::{Draft, EMPTY_CODE_HASH, View, Workspace};

/// The most gas a call may use, and what it gets when it names none.
pub const CALL_GAS_MAX: u64 = 120_000_000;

/// Gas that a call passes on to a value transfer's receiver for free (the stipend): an estimate leaves room for it.
const CALL_STIPEND: u64 = 2_300;

/// Gas of a transfer between plain accounts.
const TRANSFER_GAS: u64 = 21_000;

/// An estimate is narrowed until it lies within this many thousandths of the least gas that works.
const ESTIMATE_TOLERANCE_PER_MILLE: u64 = 15;

/// How often an access list is refined before it is taken as it is.
const ACCESS_LIST_ROUNDS: usize = 4;

/// A transaction that is only asked about. Every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// The sender; the zero address when left out. It may be a contract, and it needs no key.
    pub from: Option<Address>,
    /// The receiver; a creation when left out.
    pub to: Option<Address>,
    /// Calldata or creation code.
    pub input: Bytes,
    /// Value, wei. The sender must have it.
    pub value: U256,
    /// Gas limit; capped at [`CALL_GAS_MAX`].
    pub gas: Option<u64>,
    /// Price per gas (legacy), wei. Without a price nothing is paid and BASEFEE reads zero.
    pub gas_price: Option<u128>,
    /// Fee cap per gas (EIP-1559), wei.
    pub max_fee_per_gas: Option<u128>,
    /// Tip per gas (EIP-1559), wei.
    pub max_priority_fee_per_gas: Option<u128>,
    /// The sender's nonce, which decides a creation's address; its next one when left out.
    pub nonce: Option<u64>,
    /// EIP-2930 access list.
    pub access_list: AccessList,
    /// EIP-7702 authorisations.
    pub authorization_list: Vec<SignedAuthorization>,
    /// State to pretend.
    pub overrides: BTreeMap<Address, AccountOverride>,
}

/// What to pretend about an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountOverride {
    /// Balance, wei.
    pub balance: Option<U256>,
    /// Nonce.
    pub nonce: Option<u64>,
    /// Code.
    pub code: Option<Bytes>,
    /// All of its storage; everything else reads zero.
    pub state: Option<BTreeMap<B256, B256>>,
    /// Some of its storage.
    pub state_diff: BTreeMap<B256, B256>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// It returned. For a creation the output is the code.
    Success {
        /// What it returned.
        output: Bytes,
    },
    /// It reverted.
    Revert {
        /// Revert data; [`revert_reason`] puts it in words.
        output: Bytes,
    },
    /// It ran out of gas or did something invalid.
    Halt {
        /// What stopped it.
        reason: String,
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    /// How it ended.
    pub result: CallResult,
    /// Gas it would be charged.
    pub gas_used: u64,
    /// Logs it would leave.
    pub logs: Vec<Log>,
}

impl Chain {
    /// Runs a call on the state after a block; `now` is the caller's clock, s since 1970.
    ///
    /// # Errors
    /// [`CallError::Rejected`] when it could not be sent either, [`CallError::Internal`] with
    /// [`Error::UnknownBlock`] when the block is not there. A revert is an outcome.
    pub fn call(&self, request: &CallRequest, at: At, now: u64) -> Result<CallOutcome, CallError> {
        let scene = self.scene(request, at, now)?;
        let gas = request.gas.unwrap_or(CALL_GAS_MAX).min(CALL_GAS_MAX);
        Ok(outcome(scene.run(gas, &request.access_list)?.result))
    }

    /// The least gas limit with which a transaction like this would succeed, within 1.5 percent above it; a failing
    /// inner call may still be caught by the contract (EIP-150), which an estimate cannot see.
    ///
    /// # Errors
    /// [`CallError::Reverted`] and [`CallError::Halted`] when no gas helps, [`CallError::GasExceedsAllowance`] when
    /// the gas that is allowed or can be paid for does not suffice, and what [`Chain::call`] gives.
    pub fn estimate_gas(&self, request: &CallRequest, at: At, now: u64) -> Result<u64, CallError> {
        let mut scene = self.scene(request, at, now)?;
        let cap = scene.gas_allowance(request, self.genesis().gas_limit)?;
        let list = &request.access_list;
        if scene.is_plain_transfer(request)? && cap >= TRANSFER_GAS {
            let ran = scene.run(TRANSFER_GAS, list)?;
            if ran.result.is_success() {
                return Ok(TRANSFER_GAS);
            }
        }
        let first = match scene.try_gas(cap, list)? {
            Attempt::Enough(result) => result,
            Attempt::TooLittle => return Err(CallError::GasExceedsAllowance { cap }),
            Attempt::Fails(failure) => return Err(failure),
        };
        let gas = first.gas();
        let mut low = gas.tx_gas_used().saturating_sub(1);
        let mut high = cap;
        // Often the gas spent before refunds, with room for one stipend under the 63/64 rule, is enough.
        let guess = gas.total_gas_spent().saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        if guess < high {
            match scene.try_gas(guess, list)? {
                Attempt::Enough(_) => high = guess,
                _ => low = guess,
            }
        }
        while low.saturating_add(1) < high {
            if (high - low).saturating_mul(1000) < high.saturating_mul(ESTIMATE_TOLERANCE_PER_MILLE)
            {
                break;
            }
            // The answer is usually near the lower end.
            let middle = (low + (high - low) / 2).min(low.saturating_mul(2)).max(low + 1);
            match scene.try_gas(middle, list)? {
                Attempt::Enough(_) => high = middle,
                _ => low = middle,
            }
        }
        Ok(high)
    }

    /// The accounts and slots a transaction like this would touch (EIP-2930), and what it does with that list.
    ///
    /// # Errors
    /// As [`Chain::call`].
    pub fn create_access_list(
        &self,
        request: &CallRequest,
        at: At,
        now: u64,
    ) -> Result<(AccessList, CallOutcome), CallError> {
        let scene = self.scene(request, at, now)?;
        let gas = request.gas.unwrap_or(CALL_GAS_MAX).min(CALL_GAS_MAX);
        let mut list = request.access_list.clone();
        let mut ran = scene.run(gas, &list)?;
        for _ in 0..ACCESS_LIST_ROUNDS {
            let touched = scene.touched(&ran.state);
            if touched == list {
                break;
            }
            list = touched;
            ran = scene.run(gas, &list)?;
        }
        Ok((list, outcome(ran.result)))
    }

    fn scene<'a>(
        &'a self,
        request: &'a CallRequest,
        at: At,
        now: u64,
    ) -> Result<Scene<'a>, CallError> {
        let (view, block) = self.resolve(at)?.ok_or(Error::UnknownBlock)?;
        let mut header = block.header().clone();
        if header.number >= self.head().number {
            header.timestamp = header.timestamp.max(now);
        }
        let priced = request.gas_price.or(request.max_fee_per_gas).is_some_and(|price| price > 0);
        if !priced {
            // As in go-ethereum: who pays nothing is not measured against the base fee.
            header.base_fee_per_gas = Some(0);
        }
        if request.gas_price.is_some()
            && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
        {
            let what = "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified";
            return Err(TxError::Invalid(what.to_owned()).into());
        }
        let scene = Scene { chain: self, view, header, request };
        // Overrides are checked once, here; every run applies them again.
        scene.workspace()?;
        Ok(scene)
    }
}

/// Everything that runs of one request share.
struct Scene<'a> {
    chain: &'a Chain,
    view: View,
    header: Header,
    request: &'a CallRequest,
}

enum Attempt {
    Enough(ExecutionResult),
    TooLittle,
    Fails(CallError),
}

impl Scene<'_> {
    fn sender(&self) -> Address {
        self.request.from.unwrap_or_default()
    }

    fn workspace(&self) -> Result<Workspace, CallError> {
        let mut workspace = Workspace::new(self.view.clone());
        for (address, pretend) in &self.request.overrides {
            apply(&mut workspace, *address, pretend)?;
        }
        Ok(workspace)
    }

    fn run(&self, gas: u64, access_list: &AccessList) -> Result<Ran, CallError> {
        let mut workspace = self.workspace()?;
        let nonce = match self.request.nonce {
            Some(nonce) => nonce,
            None => workspace.draft(self.sender())?.map_or(0, |draft| draft.nonce),
        };
        let tx = self.tx(gas, nonce, access_list);
        let native = Arc::clone(&self.chain.shared.native);
        let chain_id = self.chain.chain_id();
        let mut executor =
            Executor::new(&mut workspace, &self.header, chain_id, native, Mode::Call);
        executor.run(tx).map_err(|failure| match failure {
            Failure::Rejected(reason) => CallError::Rejected(reason),
            Failure::Internal(source) => CallError::Internal(source),
        })
    }

    fn tx(&self, gas_limit: u64, nonce: u64, access_list: &AccessList) -> TxEnv {
        let request = self.request;
        let tip = request.max_priority_fee_per_gas;
        let tx_type = if !request.authorization_list.is_empty() {
            4
        } else if request.max_fee_per_gas.is_some() || tip.is_some() {
            2
        } else if !access_list.is_empty() {
            1
        } else {
            0
        };
        // A tip alone stands for a cap that covers it.
        let price = request.gas_price.or(request.max_fee_per_gas).or(tip).unwrap_or(0);
        TxEnv {
            tx_type,
            caller: self.sender(),
            gas_limit,
            gas_price: price,
            kind: request.to.map_or(TxKind::Create, TxKind::Call),
            value: request.value,
            data: request.input.clone(),
            nonce,
            chain_id: Some(self.chain.chain_id()),
            access_list: access_list.clone(),
            gas_priority_fee: (tx_type == 2 || tx_type == 4).then(|| tip.unwrap_or(0)),
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list: request
                .authorization_list
                .iter()
                .cloned()
                .map(Either::Left)
                .collect(),
        }
    }

    /// Gas that the request may use: its own limit, the block's, and what the sender can pay for.
    fn gas_allowance(&self, request: &CallRequest, block_gas: u64) -> Result<u64, CallError> {
        let mut cap = request.gas.map_or(block_gas, |gas| gas.min(CALL_GAS_MAX));
        let price = request.gas_price.or(request.max_fee_per_gas).unwrap_or(0);
        if price > 0 {
            let have = self.workspace()?.draft(self.sender())?;
            let have = have.map_or(U256::ZERO, |draft| draft.balance);
            let left = have.checked_sub(request.value);
            let left = left.ok_or(TxError::InsufficientFunds { have, want: request.value })?;
            let affordable = left / U256::from(price);
            cap = cap.min(u64::try_from(affordable).unwrap_or(u64::MAX));
        }
        let needed = intrinsic_gas(&self.tx(cap, 0, &request.access_list));
        if cap < needed {
            return Err(CallError::GasExceedsAllowance { cap });
        }
        Ok(cap)
    }

    fn is_plain_transfer(&self, request: &CallRequest) -> Result<bool, CallError> {
        let Some(to) = request.to else { return Ok(false) };
        if !request.input.is_empty()
            || !request.access_list.is_empty()
            || !request.authorization_list.is_empty()
            || is_precompile(to)
        {
            return Ok(false);
        }
        let receiver = self.workspace()?.draft(to)?;
        Ok(receiver.is_none_or(|draft| draft.code_hash == EMPTY_CODE_HASH))
    }

    fn try_gas(&mut self, gas: u64, list: &AccessList) -> Result<Attempt, CallError> {
        match self.run(gas, list) {
            Ok(Ran { result, .. }) => Ok(match result {
                ExecutionResult::Success { .. } => Attempt::Enough(result),
                ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => Attempt::TooLittle,
                ExecutionResult::Halt { reason, .. } => {
                    Attempt::Fails(CallError::Halted { reason: reason.to_string() })
                }
                ExecutionResult::Revert { output, .. } => {
                    Attempt::Fails(CallError::Reverted { output })
                }
            }),
            Err(CallError::Rejected(TxError::IntrinsicGas { .. })) => Ok(Attempt::TooLittle),
            Err(other) => Err(other),
        }
    }

    /// What a run loaded, less what is warm anyway.
    fn touched(&self, state: &EvmState) -> AccessList {
        let warm: BTreeSet<Address> = [
            Some(self.sender()),
            self.request.to.or_else(|| self.created()),
            Some(self.header.beneficiary),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut items: BTreeMap<Address, BTreeSet<B256>> = BTreeMap::new();
        for (address, account) in state {
            let keys: BTreeSet<B256> =
                account.storage.keys().map(|slot| B256::from(*slot)).collect();
            if is_precompile(*address) || (keys.is_empty() && warm.contains(address)) {
                continue;
            }
            items.insert(*address, keys);
        }
        AccessList(
            items
                .into_iter()
                .map(|(address, keys)| AccessListItem {
                    address,
                    storage_keys: keys.into_iter().collect(),
                })
                .collect(),
        )
    }

    fn created(&self) -> Option<Address> {
        let nonce = match self.request.nonce {
            Some(nonce) => nonce,
            None => self.workspace().ok()?.draft(self.sender()).ok()?.map_or(0, |d| d.nonce),
        };
        Some(self.sender().create(nonce))
    }
}

fn apply(
    workspace: &mut Workspace,
    address: Address,
    pretend: &AccountOverride,
) -> Result<(), CallError> {
    let before = workspace.draft(address)?;
    let mut draft =
        before.unwrap_or(Draft { nonce: 0, balance: U256::ZERO, code_hash: EMPTY_CODE_HASH });
    draft.balance = pretend.balance.unwrap_or(draft.balance);
    draft.nonce = pretend.nonce.unwrap_or(draft.nonce);
    if let Some(code) = &pretend.code {
        let bytecode = Bytecode::new_raw_checked(code.clone())
            .map_err(|_| CallError::InvalidOverride { address, what: "malformed code" })?;
        draft.code_hash = if code.is_empty() { EMPTY_CODE_HASH } else { keccak256(code) };
        workspace.code.insert(draft.code_hash, bytecode);
    }
    workspace.accounts.insert(address, Some(draft));
    if pretend.state.is_some() && !pretend.state_diff.is_empty() {
        return Err(CallError::InvalidOverride { address, what: "both state and stateDiff" });
    }
    let slots = workspace.storage.entry(address).or_default();
    if let Some(state) = &pretend.state {
        slots.wiped = true;
        slots.slots.extend(state.iter().map(words));
    }
    slots.slots.extend(pretend.state_diff.iter().map(words));
    Ok(())
}

fn words((key, value): (&B256, &B256)) -> (U256, U256) {
    (U256::from_be_bytes(key.0), U256::from_be_bytes(value.0))
}

fn outcome(result: ExecutionResult) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    let (result, logs) = match result {
        ExecutionResult::Success { output, logs, .. } => {
            (CallResult::Success { output: output.into_data() }, logs)
        }
        ExecutionResult::Revert { output, .. } => (CallResult::Revert { output }, Vec::new()),
        ExecutionResult::Halt { reason, .. } => {
            (CallResult::Halt { reason: reason.to_string() }, Vec::new())
        }
    };
    CallOutcome { result, gas_used, logs }
}

/// Revert data in words: the text of `Error(string)`, the meaning of `Panic(uint256)`; `None` for other data.
pub fn revert_reason(output: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(output) {
        return Some(revert.reason);
    }
    Panic::abi_decode(output).ok().map(|panic| panic.to_string())
}
