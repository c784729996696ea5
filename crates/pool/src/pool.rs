use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use alloy_consensus::{Transaction as _, transaction::TxHashRef as _};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, U256};

use crate::{PooledTransaction, Rejection};

/// How much a replacement must raise both fee caps, in percent.
const REPLACEMENT_BUMP_PERCENT: u128 = 10;

/// How much the pool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most transactions of one sender.
    pub per_sender: usize,
    /// Most transactions altogether.
    pub transactions: usize,
    /// Most bytes of encoded transactions altogether.
    pub bytes: usize,
    /// Longest encoded transaction in bytes.
    pub transaction_bytes: usize,
    /// Lowest fee cap in wei per gas: the lowest base fee that the chain can have.
    pub fee_cap_min: u64,
    /// Blocks after which a transaction that was not included leaves.
    pub lifetime_blocks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_sender: 256,
            transactions: 8_192,
            bytes: 32 * 1024 * 1024,
            transaction_bytes: 128 * 1024,
            fee_cap_min: 1,
            lifetime_blocks: 2_400,
        }
    }
}

/// What the pool needs to know of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// The next nonce.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
}

/// Where a transaction waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Executable: every nonce before it is used or waiting too.
    Pending,
    /// An earlier nonce of its sender is missing.
    Queued,
}

/// What [`Pool::add`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Where the transaction waits now.
    pub place: Place,
    /// The transaction that it replaced.
    pub replaced: Option<B256>,
    /// Transactions that left to make room.
    pub evicted: Vec<B256>,
}

/// What [`Pool::on_block`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Their nonces are used: they were included, or others took their place.
    pub used: Vec<B256>,
    /// They waited too long.
    pub expired: Vec<B256>,
}

/// How many transactions wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Executable ones.
    pub pending: usize,
    /// Ones behind a missing nonce.
    pub queued: usize,
}

/// How much [`Pool::best`] may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most transactions.
    pub transactions: usize,
    /// Most bytes of encoded transactions.
    pub bytes: usize,
}

/// Transactions waiting for a block.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    senders: BTreeMap<Address, Sender>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    bytes: usize,
    arrivals: u64,
    height: u64,
    base_fee: u64,
}

#[derive(Debug)]
struct Sender {
    account: Account,
    /// Never empty.
    by_nonce: BTreeMap<u64, Waiting>,
}

#[derive(Debug, Clone)]
struct Waiting {
    tx: Arc<PooledTransaction>,
    bytes: usize,
    /// Position in the order of arrival; earlier wins between equal tips.
    arrival: u64,
    /// The head's number at arrival.
    height: u64,
}

impl Pool {
    /// An empty pool at block zero.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            senders: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            height: 0,
            base_fee: limits.fee_cap_min,
        }
    }

    /// Takes a transaction in; `account` is its sender's state at the head.
    ///
    /// A nonce gap is no error: the transaction is queued until the gap closes.
    ///
    /// # Errors
    /// The [`Rejection`]; the pool is then unchanged.
    pub fn add(&mut self, tx: PooledTransaction, account: Account) -> Result<Added, Rejection> {
        let hash = *tx.tx_hash();
        if self.by_hash.contains_key(&hash) {
            return Err(Rejection::AlreadyKnown);
        }
        let bytes = tx.encode_2718_len();
        if bytes > self.limits.transaction_bytes {
            return Err(Rejection::Oversized { size: bytes, limit: self.limits.transaction_bytes });
        }
        let (fee_cap, minimum) = (tx.max_fee_per_gas(), self.limits.fee_cap_min.into());
        if fee_cap < minimum {
            return Err(Rejection::Underpriced { fee_cap, minimum });
        }
        let (sender, nonce) = (tx.signer(), tx.nonce());
        if nonce < account.nonce {
            return Err(Rejection::NonceTooLow { sender, tx: nonce, state: account.nonce });
        }
        let cost = cost_max(&tx);
        if cost.is_none_or(|cost| cost > account.balance) {
            let cost = cost.unwrap_or(U256::MAX);
            return Err(Rejection::InsufficientFunds { sender, balance: account.balance, cost });
        }
        let old = self.senders.get(&sender).and_then(|s| s.by_nonce.get(&nonce)).cloned();
        let evicted = match &old {
            Some(old) if !outbids(&tx, &old.tx) => return Err(Rejection::ReplacementUnderpriced),
            Some(old) => self.make_room(&tx, bytes.saturating_sub(old.bytes), 0, true)?,
            None => {
                let theirs = self.senders.get(&sender).map_or(0, |s| s.by_nonce.len());
                if theirs >= self.limits.per_sender {
                    let limit = self.limits.per_sender;
                    return Err(Rejection::AccountLimit { sender, limit });
                }
                let is_next = nonce == self.next_nonce(sender, account.nonce);
                self.make_room(&tx, bytes, 1, is_next)?
            }
        };
        for hash in &evicted {
            self.remove(hash);
        }
        let replaced = old.map(|old| *old.tx.tx_hash());
        if let Some(hash) = &replaced {
            self.remove(hash);
        }
        self.insert(Arc::new(tx), bytes, account);
        let place = self.place(sender, nonce);
        Ok(Added { place, replaced, evicted })
    }

    /// Candidates for a block on a parent whose base fee for the child is `base_fee` and whose
    /// accounts are `account_at`.
    ///
    /// Dearest effective tip first, earlier arrival between equals, each sender in nonce order
    /// from the account's nonce, and never more than the sender can pay for. Gas is left to
    /// the executor, which alone knows what each transaction uses.
    #[must_use]
    pub fn best(
        &self,
        base_fee: u64,
        budget: Budget,
        mut account_at: impl FnMut(Address) -> Account,
    ) -> Vec<Arc<PooledTransaction>> {
        let mut heads = BinaryHeap::new();
        let offer = |heads: &mut BinaryHeap<_>, sender: Address, account: Account| {
            let waiting = self.senders.get(&sender)?.by_nonce.get(&account.nonce)?;
            let tip = waiting.tx.effective_tip_per_gas(base_fee)?;
            let balance = account.balance.checked_sub(cost_max(&waiting.tx)?)?;
            heads.push((tip, Reverse(waiting.arrival), sender, account.nonce, balance));
            Some(())
        };
        for sender in self.senders.keys() {
            offer(&mut heads, *sender, account_at(*sender));
        }
        let mut chosen = Vec::new();
        let mut bytes_left = budget.bytes;
        while let Some((_, _, sender, nonce, balance)) = heads.pop() {
            if chosen.len() >= budget.transactions {
                break;
            }
            let Some(waiting) = self.senders.get(&sender).and_then(|s| s.by_nonce.get(&nonce))
            else {
                continue;
            };
            let Some(left) = bytes_left.checked_sub(waiting.bytes) else { continue };
            bytes_left = left;
            chosen.push(Arc::clone(&waiting.tx));
            offer(&mut heads, sender, Account { nonce: nonce + 1, balance });
        }
        chosen
    }

    /// Takes note of a new head: block `number`, whose child has `base_fee`.
    ///
    /// `account_at` is asked once for each sender with waiting transactions.
    pub fn on_block(
        &mut self,
        number: u64,
        base_fee: u64,
        mut account_at: impl FnMut(Address) -> Account,
    ) -> Update {
        self.height = number;
        self.base_fee = base_fee;
        let mut update = Update::default();
        for (address, sender) in &mut self.senders {
            sender.account = account_at(*address);
            for (nonce, waiting) in &sender.by_nonce {
                if *nonce < sender.account.nonce {
                    update.used.push(*waiting.tx.tx_hash());
                } else if waiting.height.saturating_add(self.limits.lifetime_blocks) < number {
                    update.expired.push(*waiting.tx.tx_hash());
                }
            }
        }
        for hash in update.used.iter().chain(&update.expired) {
            self.remove(hash);
        }
        update
    }

    /// Removes a transaction that turned out not to be executable.
    pub fn remove(&mut self, hash: &B256) -> Option<Arc<PooledTransaction>> {
        let (address, nonce) = self.by_hash.remove(hash)?;
        let sender = self.senders.get_mut(&address)?;
        let waiting = sender.by_nonce.remove(&nonce)?;
        if sender.by_nonce.is_empty() {
            self.senders.remove(&address);
        }
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        Some(waiting.tx)
    }

    /// The transaction with this hash.
    #[must_use]
    pub fn get(&self, hash: &B256) -> Option<Arc<PooledTransaction>> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(Arc::clone(&self.senders.get(sender)?.by_nonce.get(nonce)?.tx))
    }

    /// The nonce that the sender's next transaction should have, counting executable ones.
    #[must_use]
    pub fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        let mut next = account_nonce;
        if let Some(sender) = self.senders.get(&sender) {
            for nonce in sender.by_nonce.range(account_nonce..).map(|(nonce, _)| *nonce) {
                if nonce != next {
                    break;
                }
                next += 1;
            }
        }
        next
    }

    /// Everything that waits, by sender and nonce.
    pub fn content(&self) -> impl Iterator<Item = (Place, Arc<PooledTransaction>)> + '_ {
        self.senders.values().flat_map(|sender| {
            let mut next = sender.account.nonce;
            sender.by_nonce.iter().map(move |(nonce, waiting)| {
                let place = if *nonce == next { Place::Pending } else { Place::Queued };
                if *nonce == next {
                    next += 1;
                }
                (place, Arc::clone(&waiting.tx))
            })
        })
    }

    /// How many transactions wait.
    #[must_use]
    pub fn status(&self) -> Status {
        self.content().fold(Status::default(), |mut status, (place, _)| {
            match place {
                Place::Pending => status.pending += 1,
                Place::Queued => status.queued += 1,
            }
            status
        })
    }

    /// How many transactions wait altogether.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Bytes of the encoded transactions that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Chooses who leaves so that `bytes` and `transactions` more fit.
    ///
    /// Only last nonces leave (a gap would strand the rest), cheapest first, never the newcomer's
    /// own, and only for a newcomer that is executable and pays a higher tip.
    fn make_room(
        &self,
        tx: &PooledTransaction,
        bytes: usize,
        transactions: usize,
        executable: bool,
    ) -> Result<Vec<B256>, Rejection> {
        let mut len = self.by_hash.len() + transactions;
        let mut total = self.bytes + bytes;
        let is_full =
            |len: usize, total: usize| len > self.limits.transactions || total > self.limits.bytes;
        if !is_full(len, total) {
            return Ok(Vec::new());
        }
        if !executable {
            return Err(Rejection::Full);
        }
        let tip = tx.effective_tip_per_gas(self.base_fee);
        let mut tails: BinaryHeap<_> = self
            .senders
            .iter()
            .filter(|(address, _)| **address != tx.signer())
            .filter_map(|(address, sender)| self.tail(*address, sender, u64::MAX))
            .collect();
        let mut evicted = Vec::new();
        while is_full(len, total) {
            let Some((Reverse(their_tip), _, address, nonce)) = tails.pop() else {
                return Err(Rejection::Full);
            };
            let sender = self.senders.get(&address);
            let Some((sender, waiting)) =
                sender.and_then(|sender| Some((sender, sender.by_nonce.get(&nonce)?)))
            else {
                continue;
            };
            if their_tip >= tip {
                return Err(Rejection::Full);
            }
            len -= 1;
            total = total.saturating_sub(waiting.bytes);
            evicted.push(*waiting.tx.tx_hash());
            tails.extend(self.tail(address, sender, nonce));
        }
        Ok(evicted)
    }

    /// The sender's last transaction before nonce `before`, ordered for eviction.
    fn tail(&self, address: Address, sender: &Sender, before: u64) -> Option<Tail> {
        let (nonce, waiting) = sender.by_nonce.range(..before).next_back()?;
        let tip = waiting.tx.effective_tip_per_gas(self.base_fee);
        Some((Reverse(tip), waiting.arrival, address, *nonce))
    }

    fn insert(&mut self, tx: Arc<PooledTransaction>, bytes: usize, account: Account) {
        let (address, nonce, hash) = (tx.signer(), tx.nonce(), *tx.tx_hash());
        let waiting = Waiting { tx, bytes, arrival: self.arrivals, height: self.height };
        self.arrivals += 1;
        self.bytes += bytes;
        self.by_hash.insert(hash, (address, nonce));
        let sender = self
            .senders
            .entry(address)
            .or_insert_with(|| Sender { account, by_nonce: BTreeMap::new() });
        sender.account = account;
        sender.by_nonce.insert(nonce, waiting);
    }

    fn place(&self, sender: Address, nonce: u64) -> Place {
        let from = self.senders.get(&sender).map_or(0, |s| s.account.nonce);
        if nonce < self.next_nonce(sender, from) { Place::Pending } else { Place::Queued }
    }
}

/// Cheapest first, then latest arrival.
type Tail = (Reverse<Option<u128>>, u64, Address, u64);

/// The most that a transaction can take from its sender, or `None` beyond 2^256.
fn cost_max(tx: &PooledTransaction) -> Option<U256> {
    U256::from(tx.max_fee_per_gas())
        .checked_mul(U256::from(tx.gas_limit()))?
        .checked_add(tx.value())
}

/// Whether `new` raises both fee caps of `old` by the required percentage.
fn outbids(new: &PooledTransaction, old: &PooledTransaction) -> bool {
    let raises = |new: u128, old: u128| {
        let (new, old) = (U256::from(new), U256::from(old));
        let percent = U256::from(100);
        new > old && new * percent >= old * (percent + U256::from(REPLACEMENT_BUMP_PERCENT))
    };
    let tip = |tx: &PooledTransaction| tx.priority_fee_or_price();
    // A tip of zero cannot be raised by a percentage: there the fee cap alone decides.
    raises(new.max_fee_per_gas(), old.max_fee_per_gas())
        && (tip(old) == 0 || raises(tip(new), tip(old)))
}
