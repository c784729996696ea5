//! Find logs by address, topic and block range.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, BloomInput, Log};

use crate::chain::Chain;
use crate::error::Error;
use crate::executed::ExecutedBlock;
use crate::store::Tables;

/// The most blocks whose receipts one query reads. A filter with an address or topic reads only blocks that the
/// index names.
pub const LOG_BLOCKS_MAX: u64 = 10_000;

/// The most logs one query returns.
pub const LOGS_MAX: usize = 10_000;

/// What to look for. An empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// First height.
    pub from_block: u64,
    /// Last height, inclusive; heights above the last finalised block hold nothing yet.
    pub to_block: u64,
    /// Any of these addresses.
    pub addresses: Vec<Address>,
    /// At each place, any of these topics.
    pub topics: [Vec<B256>; 4],
}

/// A log and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAt {
    /// The log.
    pub log: Log,
    /// Height of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Time of its block, s since 1970.
    pub block_timestamp: u64,
    /// Hash of its transaction.
    pub tx_hash: B256,
    /// Place of its transaction in the block.
    pub tx_index: u64,
    /// Place of the log in the block.
    pub log_index: u64,
}

impl LogFilter {
    /// Whether a log has one of the addresses and, at each place, one of the topics.
    pub fn matches(&self, log: &Log) -> bool {
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.iter().enumerate().all(|(place, wanted)| {
                wanted.is_empty()
                    || log.topics().get(place).is_some_and(|topic| wanted.contains(topic))
            })
    }

    /// Whether a block's bloom leaves room for a match.
    fn may_match(&self, block: &ExecutedBlock) -> bool {
        let bloom = block.header().logs_bloom;
        let holds = |input: &[u8]| bloom.contains_input(BloomInput::Raw(input));
        (self.addresses.is_empty() || self.addresses.iter().any(|item| holds(item.as_slice())))
            && self
                .topics
                .iter()
                .all(|wanted| wanted.is_empty() || wanted.iter().any(|item| holds(item.as_slice())))
    }

    /// Heights that may hold matches, from the index; `None` when the filter names nothing.
    fn candidates(&self, tables: &Tables, to: u64) -> Result<Option<BTreeSet<u64>>, Error> {
        let mut candidates: Option<BTreeSet<u64>> = None;
        let mut narrow = |found: BTreeSet<u64>| {
            candidates = Some(match candidates.take() {
                None => found,
                Some(before) => before.intersection(&found).copied().collect(),
            });
        };
        if !self.addresses.is_empty() {
            let mut found = BTreeSet::new();
            for address in &self.addresses {
                found.extend(tables.log_blocks_of_address(*address, self.from_block, to)?);
            }
            narrow(found);
        }
        for wanted in self.topics.iter().filter(|wanted| !wanted.is_empty()) {
            let mut found = BTreeSet::new();
            for topic in wanted {
                found.extend(tables.log_blocks_of_topic(*topic, self.from_block, to)?);
            }
            narrow(found);
        }
        Ok(candidates)
    }
}

/// The logs of one block that match; addresses and topics of the filter count, its range does not.
pub fn logs_of(block: &ExecutedBlock, filter: &LogFilter) -> Vec<LogAt> {
    let mut found = Vec::new();
    if !filter.may_match(block) {
        return found;
    }
    let mut log_index = 0_u64;
    let transactions = block.block.body.transactions.iter();
    for ((tx_index, tx), outcome) in (0_u64..).zip(transactions).zip(&block.outcomes) {
        for log in outcome.receipt.logs() {
            if filter.matches(log) {
                found.push(LogAt {
                    log: log.clone(),
                    block_number: block.number(),
                    block_hash: block.hash,
                    block_timestamp: block.header().timestamp,
                    tx_hash: *tx.tx_hash(),
                    tx_index,
                    log_index,
                });
            }
            log_index += 1;
        }
    }
    found
}

impl Chain {
    /// Logs of finalised blocks, in order.
    ///
    /// # Errors
    /// [`Error::InvalidRange`] when the range ends before it starts, [`Error::RangeTooWide`] and
    /// [`Error::TooManyLogs`] when answering would take too much work, or when the database fails.
    pub fn logs(&self, filter: &LogFilter) -> Result<Vec<LogAt>, Error> {
        if filter.from_block > filter.to_block {
            return Err(Error::InvalidRange);
        }
        let tables = self.tables();
        let to = filter.to_block.min(tables.last()?.0);
        if filter.from_block > to {
            return Ok(Vec::new());
        }
        let heights: Vec<u64> = match filter.candidates(&tables, to)? {
            Some(candidates) => candidates.into_iter().collect(),
            None if to - filter.from_block >= LOG_BLOCKS_MAX => {
                return Err(Error::RangeTooWide { limit: LOG_BLOCKS_MAX });
            }
            None => (filter.from_block..=to).collect(),
        };
        if u64::try_from(heights.len()).unwrap_or(u64::MAX) > LOG_BLOCKS_MAX {
            return Err(Error::RangeTooWide { limit: LOG_BLOCKS_MAX });
        }
        let mut found = Vec::new();
        for height in heights {
            let block = tables.block(height)?.ok_or_else(|| Error::corrupt("a finalised block"))?;
            found.extend(logs_of(&block, filter));
            if found.len() > LOGS_MAX {
                return Err(Error::TooManyLogs { limit: LOGS_MAX });
            }
        }
        Ok(found)
    }
}
