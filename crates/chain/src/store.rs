//! Keep finalised blocks and every past state in one redb file.
//!
//! State tables are versioned: a key is followed by the height of the write, big-endian, and a read at height h
//! takes the last entry at or below h. Nothing is overwritten, so any finalised block can be read and proven.
//! One block is one atomic, fsynced commit of all tables: after a crash the file holds whole blocks only.

use std::path::Path;

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_rlp::Decodable;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::block::{Block, encode_block};
use crate::error::Error;
use crate::executed::{ExecutedBlock, outcomes_of};
use crate::state::{AccountState, Layer};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ByNumber = TableDefinition<'static, u64, &'static [u8]>;

const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const HASHES: TableDefinition<'static, u64, [u8; 32]> = TableDefinition::new("hashes");
const NUMBERS: TableDefinition<'static, [u8; 32], u64> = TableDefinition::new("numbers");
const HEADERS: ByNumber = TableDefinition::new("headers");
const BLOCKS: ByNumber = TableDefinition::new("blocks");
const SENDERS: ByNumber = TableDefinition::new("senders");
const RECEIPTS: ByNumber = TableDefinition::new("receipts");
const CERTIFICATES: ByNumber = TableDefinition::new("certificates");
const TRANSACTIONS: TableDefinition<'static, [u8; 32], (u64, u32)> =
    TableDefinition::new("transactions");
const ACCOUNTS: Rows = TableDefinition::new("accounts");
const STORAGE: Rows = TableDefinition::new("storage");
const NODES: Rows = TableDefinition::new("nodes");
const CODE: TableDefinition<'static, [u8; 32], &'static [u8]> = TableDefinition::new("code");
const LOG_ADDRESSES: Rows = TableDefinition::new("log_addresses");
const LOG_TOPICS: Rows = TableDefinition::new("log_topics");

/// Layout of the tables; a file of another layout is refused.
const LAYOUT: &[u8] = b"og-chain/1";
const KEY_LAYOUT: &str = "layout";
const KEY_GENESIS: &str = "genesis";

/// Page cache of one database, bytes. Several chains may live in one process.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The database: the only writer, and the source of snapshots.
pub(crate) struct Store {
    database: Database,
}

/// One snapshot of all tables; readers of it never block and are never disturbed.
pub(crate) struct Tables {
    hashes: ReadOnlyTable<u64, [u8; 32]>,
    numbers: ReadOnlyTable<[u8; 32], u64>,
    headers: ReadOnlyTable<u64, &'static [u8]>,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
    senders: ReadOnlyTable<u64, &'static [u8]>,
    receipts: ReadOnlyTable<u64, &'static [u8]>,
    certificates: ReadOnlyTable<u64, &'static [u8]>,
    transactions: ReadOnlyTable<[u8; 32], (u64, u32)>,
    accounts: ReadOnlyTable<&'static [u8], &'static [u8]>,
    storage: ReadOnlyTable<&'static [u8], &'static [u8]>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    code: ReadOnlyTable<[u8; 32], &'static [u8]>,
    log_addresses: ReadOnlyTable<&'static [u8], &'static [u8]>,
    log_topics: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Store {
    /// Opens a file, or memory when there is no path, and writes `genesis` into an empty one.
    pub(crate) fn open(path: Option<&Path>, genesis: &Layer) -> Result<Self, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = match path {
            Some(path) => builder.create(path)?,
            None => builder.create_with_backend(InMemoryBackend::new())?,
        };
        let store = Self { database };
        match store.genesis_hash()? {
            Some(found) if found == genesis.block.hash => {}
            Some(found) => {
                return Err(Error::GenesisMismatch { expected: genesis.block.hash, found });
            }
            None => store.write(genesis, None, true)?,
        }
        Ok(store)
    }

    fn genesis_hash(&self) -> Result<Option<B256>, Error> {
        let transaction = self.database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        let layout = meta.get(KEY_LAYOUT)?.map(|value| value.value().to_vec());
        if layout.as_deref() != Some(LAYOUT) {
            return Err(Error::corrupt("the database has another layout"));
        }
        let genesis = meta.get(KEY_GENESIS)?.map(|value| value.value().to_vec());
        let genesis = genesis.ok_or_else(|| Error::corrupt("the genesis hash is missing"))?;
        let hash = B256::try_from(genesis.as_slice()).map_err(Error::corrupt)?;
        Ok(Some(hash))
    }

    /// Writes one block with everything that belongs to it, atomically and durably.
    pub(crate) fn commit(&self, layer: &Layer, certificate: Option<&[u8]>) -> Result<(), Error> {
        self.write(layer, certificate, false)
    }

    /// Adds a certificate to a block that is already there; keeps the first one.
    pub(crate) fn add_certificate(&self, number: u64, certificate: &[u8]) -> Result<(), Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(CERTIFICATES)?;
            let known = table.get(number)?.is_some();
            if !known {
                table.insert(number, certificate)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn write(&self, layer: &Layer, certificate: Option<&[u8]>, genesis: bool) -> Result<(), Error> {
        let block = &layer.block;
        let number = block.number();
        let transaction = self.database.begin_write()?;
        if genesis {
            let mut meta = transaction.open_table(META)?;
            meta.insert(KEY_LAYOUT, LAYOUT)?;
            meta.insert(KEY_GENESIS, block.hash.as_slice())?;
        }
        transaction.open_table(HASHES)?.insert(number, block.hash.0)?;
        transaction.open_table(NUMBERS)?.insert(block.hash.0, number)?;
        let header = alloy_rlp::encode(&block.block.header);
        transaction.open_table(HEADERS)?.insert(number, header.as_slice())?;
        let encoded = encode_block(&block.block);
        transaction.open_table(BLOCKS)?.insert(number, encoded.as_ref())?;
        let senders: Vec<u8> = block.senders.iter().flat_map(|sender| sender.0.0).collect();
        transaction.open_table(SENDERS)?.insert(number, senders.as_slice())?;
        let receipts: Vec<&ReceiptEnvelope> =
            block.outcomes.iter().map(|outcome| &outcome.receipt).collect();
        let mut encoded = Vec::new();
        alloy_rlp::encode_list::<_, ReceiptEnvelope>(&receipts, &mut encoded);
        transaction.open_table(RECEIPTS)?.insert(number, encoded.as_slice())?;
        {
            let mut certificates = transaction.open_table(CERTIFICATES)?;
            if let Some(certificate) = certificate {
                certificates.insert(number, certificate)?;
            }
        }
        {
            let mut transactions = transaction.open_table(TRANSACTIONS)?;
            for (index, tx) in block.block.body.transactions.iter().enumerate() {
                let index = u32::try_from(index).map_err(Error::corrupt)?;
                transactions.insert(tx.tx_hash().0, (number, index))?;
            }
        }
        {
            let mut addresses = transaction.open_table(LOG_ADDRESSES)?;
            let mut topics = transaction.open_table(LOG_TOPICS)?;
            for log in block.logs() {
                addresses.insert(versioned(log.address.as_slice(), number).as_slice(), &[][..])?;
                for topic in log.topics() {
                    topics.insert(versioned(topic.as_slice(), number).as_slice(), &[][..])?;
                }
            }
        }
        self.write_state(&transaction, layer, number)?;
        transaction.commit()?;
        Ok(())
    }

    fn write_state(
        &self,
        transaction: &redb::WriteTransaction,
        layer: &Layer,
        number: u64,
    ) -> Result<(), Error> {
        let changes = &layer.changes;
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        for (address, account) in &changes.accounts {
            let value = account.as_ref().map(alloy_rlp::encode).unwrap_or_default();
            accounts.insert(versioned(address.as_slice(), number).as_slice(), value.as_slice())?;
        }
        let mut storage = transaction.open_table(STORAGE)?;
        for (address, slots) in &changes.storage {
            if slots.wiped {
                for slot in slots_in_use(&storage, *address)? {
                    let key = versioned(&slot_key(*address, slot), number);
                    storage.insert(key.as_slice(), &[][..])?;
                }
            }
            for (slot, value) in &slots.slots {
                let key = versioned(&slot_key(*address, *slot), number);
                storage.insert(key.as_slice(), value.to_be_bytes_trimmed_vec().as_slice())?;
            }
        }
        let mut nodes = transaction.open_table(NODES)?;
        for (key, node) in &changes.nodes {
            nodes.insert(versioned(key, number).as_slice(), node.as_slice())?;
        }
        let mut code = transaction.open_table(CODE)?;
        for (hash, bytes) in &changes.code {
            code.insert(hash.0, bytes.as_ref())?;
        }
        Ok(())
    }

    /// A snapshot of the tables as they are now.
    pub(crate) fn tables(&self) -> Result<Tables, Error> {
        let transaction = self.database.begin_read()?;
        Ok(Tables {
            hashes: transaction.open_table(HASHES)?,
            numbers: transaction.open_table(NUMBERS)?,
            headers: transaction.open_table(HEADERS)?,
            blocks: transaction.open_table(BLOCKS)?,
            senders: transaction.open_table(SENDERS)?,
            receipts: transaction.open_table(RECEIPTS)?,
            certificates: transaction.open_table(CERTIFICATES)?,
            transactions: transaction.open_table(TRANSACTIONS)?,
            accounts: transaction.open_table(ACCOUNTS)?,
            storage: transaction.open_table(STORAGE)?,
            nodes: transaction.open_table(NODES)?,
            code: transaction.open_table(CODE)?,
            log_addresses: transaction.open_table(LOG_ADDRESSES)?,
            log_topics: transaction.open_table(LOG_TOPICS)?,
        })
    }
}

impl Tables {
    /// Height and hash of the last finalised block.
    pub(crate) fn last(&self) -> Result<(u64, B256), Error> {
        let (number, hash) =
            self.hashes.last()?.ok_or_else(|| Error::corrupt("the genesis block is missing"))?;
        Ok((number.value(), hash.value().into()))
    }

    pub(crate) fn hash_of(&self, number: u64) -> Result<Option<B256>, Error> {
        Ok(self.hashes.get(number)?.map(|hash| hash.value().into()))
    }

    pub(crate) fn number_of(&self, hash: B256) -> Result<Option<u64>, Error> {
        Ok(self.numbers.get(hash.0)?.map(|number| number.value()))
    }

    pub(crate) fn header(&self, number: u64) -> Result<Option<Header>, Error> {
        match self.headers.get(number)? {
            None => Ok(None),
            Some(bytes) => decode(bytes.value()).map(Some),
        }
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<ExecutedBlock>, Error> {
        let Some(hash) = self.hash_of(number)? else { return Ok(None) };
        let missing = || Error::corrupt(format!("block {number} is incomplete"));
        let block: Block = decode(self.blocks.get(number)?.ok_or_else(missing)?.value())?;
        let senders = self.senders.get(number)?.ok_or_else(missing)?;
        let senders: Vec<Address> =
            senders.value().chunks_exact(20).map(Address::from_slice).collect();
        let receipts = self.receipts(number)?.ok_or_else(missing)?;
        let outcomes = outcomes_of(&block, &senders, receipts);
        Ok(Some(ExecutedBlock { hash, block, senders, outcomes }))
    }

    pub(crate) fn receipts(&self, number: u64) -> Result<Option<Vec<ReceiptEnvelope<Log>>>, Error> {
        match self.receipts.get(number)? {
            None => Ok(None),
            Some(bytes) => decode(bytes.value()).map(Some),
        }
    }

    pub(crate) fn certificate(&self, number: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.certificates.get(number)?.map(|bytes| Bytes::copy_from_slice(bytes.value())))
    }

    pub(crate) fn certificate_from(&self, number: u64) -> Result<Option<(u64, Bytes)>, Error> {
        match self.certificates.range(number..)?.next() {
            None => Ok(None),
            Some(entry) => {
                let (number, bytes) = entry?;
                Ok(Some((number.value(), Bytes::copy_from_slice(bytes.value()))))
            }
        }
    }

    pub(crate) fn transaction(&self, hash: B256) -> Result<Option<(u64, usize)>, Error> {
        match self.transactions.get(hash.0)? {
            None => Ok(None),
            Some(place) => {
                let (number, index) = place.value();
                Ok(Some((number, usize::try_from(index).map_err(Error::corrupt)?)))
            }
        }
    }

    pub(crate) fn account(
        &self,
        address: Address,
        height: u64,
    ) -> Result<Option<AccountState>, Error> {
        match latest(&self.accounts, address.as_slice(), height)? {
            Some(bytes) if !bytes.is_empty() => decode(&bytes).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn storage(&self, address: Address, slot: U256, height: u64) -> Result<U256, Error> {
        match latest(&self.storage, &slot_key(address, slot), height)? {
            None => Ok(U256::ZERO),
            Some(bytes) => {
                U256::try_from_be_slice(&bytes).ok_or_else(|| Error::corrupt("a slot's value"))
            }
        }
    }

    pub(crate) fn node(&self, key: &[u8], height: u64) -> Result<Option<Vec<u8>>, Error> {
        latest(&self.nodes, key, height)
    }

    pub(crate) fn code(&self, hash: B256) -> Result<Option<Bytes>, Error> {
        Ok(self.code.get(hash.0)?.map(|bytes| Bytes::copy_from_slice(bytes.value())))
    }

    /// Heights in `from..=to` whose blocks hold a log of this address.
    pub(crate) fn log_blocks_of_address(
        &self,
        address: Address,
        from: u64,
        to: u64,
    ) -> Result<Vec<u64>, Error> {
        heights(&self.log_addresses, address.as_slice(), from, to)
    }

    /// Heights in `from..=to` whose blocks hold a log with this topic at any place.
    pub(crate) fn log_blocks_of_topic(
        &self,
        topic: B256,
        from: u64,
        to: u64,
    ) -> Result<Vec<u64>, Error> {
        heights(&self.log_topics, topic.as_slice(), from, to)
    }
}

/// `key` followed by a height: where a version lives.
fn versioned(key: &[u8], height: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 8);
    out.extend_from_slice(key);
    out.extend_from_slice(&height.to_be_bytes());
    out
}

fn slot_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0; 52];
    let (account, rest) = key.split_at_mut(20);
    account.copy_from_slice(address.as_slice());
    rest.copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// The last version of `key` at or below `height`.
fn latest(
    table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    height: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let (first, last) = (versioned(key, 0), versioned(key, height));
    match table.range(first.as_slice()..=last.as_slice())?.next_back() {
        None => Ok(None),
        Some(entry) => Ok(Some(entry?.1.value().to_vec())),
    }
}

fn heights(
    table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    from: u64,
    to: u64,
) -> Result<Vec<u64>, Error> {
    let (first, last) = (versioned(key, from), versioned(key, to));
    let mut out = Vec::new();
    for entry in table.range(first.as_slice()..=last.as_slice())? {
        let (key, _) = entry?;
        let tail = key.value().last_chunk::<8>().copied();
        out.push(u64::from_be_bytes(tail.ok_or_else(|| Error::corrupt("a log index key"))?));
    }
    Ok(out)
}

/// Slots of an account whose last written value is not zero.
fn slots_in_use(
    storage: &Table<'_, &'static [u8], &'static [u8]>,
    address: Address,
) -> Result<Vec<U256>, Error> {
    let mut found: Vec<(U256, bool)> = Vec::new();
    let first = address.as_slice();
    let last = [first, &[0xff; 40]].concat();
    for entry in storage.range(first..=last.as_slice())? {
        let (key, value) = entry?;
        let slot = key.value().get(20..52).ok_or_else(|| Error::corrupt("a storage key"))?;
        let slot = U256::from_be_slice(slot);
        let used = !value.value().is_empty();
        match found.last_mut() {
            Some(previous) if previous.0 == slot => previous.1 = used,
            _ => found.push((slot, used)),
        }
    }
    Ok(found.into_iter().filter_map(|(slot, used)| used.then_some(slot)).collect())
}

fn decode<T: Decodable>(mut bytes: &[u8]) -> Result<T, Error> {
    let value = T::decode(&mut bytes).map_err(Error::corrupt)?;
    if bytes.is_empty() { Ok(value) } else { Err(Error::corrupt("bytes follow a stored value")) }
}
