//! Search logs, and remember what pollers have seen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, FilterChanges, Log, Transaction};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::LogFilter;

use super::{args::Args, backend::Backend, convert, error};

type Answer<T> = Result<T, ErrorObjectOwned>;

/// Most filters at once; the one that was polled longest ago makes room.
const FILTERS_MAX: usize = 1_024;
/// A filter that nobody polls for this long is forgotten, in milliseconds.
const IDLE_MS_MAX: u64 = 5 * 60 * 1_000;
/// Most blocks one poll catches up with.
const POLL_BLOCKS_MAX: u64 = 1_000;

/// The filters of one node.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    installed: Mutex<Installed>,
}

#[derive(Debug, Default)]
struct Installed {
    last_id: u64,
    by_id: BTreeMap<U256, Polled>,
}

#[derive(Debug, Clone)]
struct Polled {
    kind: Kind,
    polled_ms: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Logs { filter: Box<Filter>, next_block: u64 },
    Blocks { next_block: u64 },
    Pending { seen: u64, full: bool },
}

impl Filters {
    fn install(&self, kind: Kind, now_ms: u64) -> U256 {
        let mut installed = self.lock();
        installed.by_id.retain(|_, polled| polled.polled_ms.saturating_add(IDLE_MS_MAX) >= now_ms);
        if installed.by_id.len() >= FILTERS_MAX {
            let idlest = installed.by_id.iter().min_by_key(|(_, polled)| polled.polled_ms);
            if let Some(id) = idlest.map(|(id, _)| *id) {
                installed.by_id.remove(&id);
            }
        }
        installed.last_id += 1;
        let id = U256::from(installed.last_id);
        installed.by_id.insert(id, Polled { kind, polled_ms: now_ms });
        id
    }

    fn lock(&self) -> MutexGuard<'_, Installed> {
        // Nothing here unwinds half-way through a change.
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn logs(node: &Backend, args: &mut Args<'_>) -> Answer<Vec<Log>> {
    let filter: Filter = args.next()?;
    search(node, &filter)
}

pub(super) fn new_filter(node: &Backend, args: &mut Args<'_>) -> Answer<U256> {
    let filter: Filter = args.next()?;
    convert::log_filter(&filter)?;
    let next_block = node.chain.head().number + 1;
    let kind = Kind::Logs { filter: Box::new(filter), next_block };
    Ok(node.filters.install(kind, node.clock.now_ms()))
}

pub(super) fn new_block_filter(node: &Backend, _: &mut Args<'_>) -> Answer<U256> {
    let next_block = node.chain.head().number + 1;
    Ok(node.filters.install(Kind::Blocks { next_block }, node.clock.now_ms()))
}

pub(super) fn new_pending_filter(node: &Backend, args: &mut Args<'_>) -> Answer<U256> {
    let full = args.optional()?.unwrap_or(false);
    let seen = *node.mempool.arrivals().borrow();
    Ok(node.filters.install(Kind::Pending { seen, full }, node.clock.now_ms()))
}

pub(super) fn uninstall(node: &Backend, args: &mut Args<'_>) -> Answer<bool> {
    let id: U256 = args.next()?;
    Ok(node.filters.lock().by_id.remove(&id).is_some())
}

/// All logs that an installed filter matches, from its first block.
pub(super) fn filter_logs(node: &Backend, args: &mut Args<'_>) -> Answer<Vec<Log>> {
    let id: U256 = args.next()?;
    let filter = match polled(node, id)?.kind {
        Kind::Logs { filter, .. } => filter,
        Kind::Blocks { .. } | Kind::Pending { .. } => return Err(not_found()),
    };
    search(node, &filter)
}

/// What is new since the last poll.
pub(super) fn changes(node: &Backend, args: &mut Args<'_>) -> Answer<FilterChanges> {
    let id: U256 = args.next()?;
    let mut polled = polled(node, id)?;
    let answer = match &mut polled.kind {
        Kind::Logs { filter, next_block } => {
            FilterChanges::Logs(new_logs(node, filter, next_block)?)
        }
        Kind::Blocks { next_block } => {
            let last = node.chain.head().number.min(*next_block + POLL_BLOCKS_MAX - 1);
            let hashes = (*next_block..=last)
                .filter_map(|number| node.chain.canonical_hash(number).transpose())
                .collect::<Result<Vec<_>, _>>()
                .map_err(error::chain)?;
            *next_block = (*next_block).max(last + 1);
            FilterChanges::Hashes(hashes)
        }
        Kind::Pending { seen, full } => {
            let (hashes, count) = node.mempool.arrived_since(*seen);
            *seen = count;
            match *full {
                true => FilterChanges::Transactions(transactions(node, &hashes)?),
                false => FilterChanges::Hashes(hashes),
            }
        }
    };
    polled.polled_ms = node.clock.now_ms();
    // A filter that was removed meanwhile stays removed.
    if let Some(entry) = node.filters.lock().by_id.get_mut(&id) {
        *entry = polled;
    }
    Ok(answer)
}

/// The transactions with these hashes, wherever they are by now.
pub(super) fn transactions(node: &Backend, hashes: &[B256]) -> Answer<Vec<Transaction>> {
    let mut found = Vec::with_capacity(hashes.len());
    for hash in hashes {
        if let Some(tx) = node.mempool.get(hash) {
            found.push(convert::waiting(&tx));
        } else if let Some((block, index)) = node.included(*hash)? {
            found.extend(convert::included(&block, index));
        }
    }
    Ok(found)
}

fn polled(node: &Backend, id: U256) -> Answer<Polled> {
    node.filters.lock().by_id.get(&id).cloned().ok_or_else(not_found)
}

fn not_found() -> ErrorObjectOwned {
    error::refused("filter not found")
}

/// Matches in blocks that became final since the last poll, inside the filter's own range.
fn new_logs(node: &Backend, filter: &Filter, next_block: &mut u64) -> Answer<Vec<Log>> {
    let head = node.chain.head().number;
    let last = head.min(next_block.saturating_add(POLL_BLOCKS_MAX - 1));
    let (mut from, mut to) = (*next_block, last);
    if let FilterBlockOption::Range { from_block, to_block } = filter.block_option {
        from = from.max(from_block.and_then(|name| name.as_number()).unwrap_or(0));
        to = to.min(to_block.and_then(|name| name.as_number()).unwrap_or(u64::MAX));
    }
    let found =
        find(node, &LogFilter { from_block: from, to_block: to, ..convert::log_filter(filter)? })?;
    *next_block = (*next_block).max(last + 1);
    Ok(found)
}

fn search(node: &Backend, filter: &Filter) -> Answer<Vec<Log>> {
    let wanted = convert::log_filter(filter)?;
    let head = node.chain.head().number;
    let (from_block, to_block) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let number = node.chain.number_of(hash).map_err(error::chain)?;
            let number = number.ok_or_else(|| error::refused("unknown block"))?;
            (number, number)
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let from = from_block.map_or(head, |name| node.number(name));
            let to = to_block.map_or(head, |name| node.number(name));
            if from > to {
                return Err(error::refused("invalid block range params"));
            }
            (from, to.min(head))
        }
    };
    find(node, &LogFilter { from_block, to_block, ..wanted })
}

fn find(node: &Backend, filter: &LogFilter) -> Answer<Vec<Log>> {
    if filter.from_block > filter.to_block {
        return Ok(Vec::new());
    }
    let found = node.chain.logs(filter).map_err(error::chain)?;
    Ok(found.into_iter().map(convert::log).collect())
}
