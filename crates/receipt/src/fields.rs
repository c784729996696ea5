//! Reading integer-keyed maps: every entry is taken once, by its label, and none may be left over.

use alloy_primitives::{Address, B256, Bytes, U256};
use og_primitives::cbor::Value;

use crate::Error;

/// The entries of a map that have not been taken yet.
pub(crate) struct Fields {
    what: &'static str,
    entries: Vec<(Value, Value)>,
}

impl Fields {
    pub(crate) fn of(what: &'static str, value: Value) -> Result<Self, Error> {
        match value {
            Value::Map(entries) => Ok(Self { what, entries }),
            _ => Err(Error::field(what, "is not a map")),
        }
    }

    /// The value under `label`, if there is one. The decoder has refused duplicates.
    pub(crate) fn optional(&mut self, label: u64) -> Option<Value> {
        let at = self.entries.iter().position(|(key, _)| *key == Value::Uint(label))?;
        Some(self.entries.swap_remove(at).1)
    }

    fn required(&mut self, label: u64, name: &'static str) -> Result<Value, Error> {
        self.optional(label).ok_or(Error::field(name, "is missing"))
    }

    /// Nothing may be left over: what is not understood is not accepted.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.entries.is_empty() {
            Ok(())
        } else {
            Err(Error::field(self.what, "has an unknown entry"))
        }
    }

    pub(crate) fn map(&mut self, label: u64, name: &'static str) -> Result<Self, Error> {
        Self::of(name, self.required(label, name)?)
    }

    pub(crate) fn uint(&mut self, label: u64, name: &'static str) -> Result<u64, Error> {
        self.required(label, name)?
            .as_uint()
            .ok_or(Error::field(name, "is not an unsigned integer"))
    }

    pub(crate) fn bool(&mut self, label: u64, name: &'static str) -> Result<bool, Error> {
        match self.required(label, name)? {
            Value::Bool(bool) => Ok(bool),
            _ => Err(Error::field(name, "is not a boolean")),
        }
    }

    pub(crate) fn text(
        &mut self,
        label: u64,
        name: &'static str,
        bytes_max: usize,
    ) -> Result<String, Error> {
        match self.required(label, name)? {
            Value::Text(text) if text.len() <= bytes_max => Ok(text),
            Value::Text(_) => Err(Error::field(name, "is too long")),
            _ => Err(Error::field(name, "is not text")),
        }
    }

    pub(crate) fn bytes(
        &mut self,
        label: u64,
        name: &'static str,
        bytes_max: usize,
    ) -> Result<Bytes, Error> {
        to_bytes(self.required(label, name)?, name, bytes_max)
    }

    pub(crate) fn hash(&mut self, label: u64, name: &'static str) -> Result<B256, Error> {
        to_hash(&self.required(label, name)?, name)
    }

    pub(crate) fn address(&mut self, label: u64, name: &'static str) -> Result<Address, Error> {
        match self.required(label, name)?.as_bytes().map(<[u8; 20]>::try_from) {
            Some(Ok(address)) => Ok(address.into()),
            _ => Err(Error::field(name, "is not 20 bytes")),
        }
    }

    /// A number of up to 256 bits: big-endian bytes without leading zeros.
    pub(crate) fn u256(&mut self, label: u64, name: &'static str) -> Result<U256, Error> {
        match self.required(label, name)?.as_bytes() {
            Some([0, ..]) => Err(Error::field(name, "has leading zeros")),
            Some(bytes) => {
                U256::try_from_be_slice(bytes).ok_or(Error::field(name, "exceeds 256 bits"))
            }
            None => Err(Error::field(name, "is not bytes")),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        label: u64,
        name: &'static str,
        items_max: usize,
        item: impl Fn(Value) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.required(label, name)? {
            Value::Array(items) if items.len() <= items_max => {
                items.into_iter().map(item).collect()
            }
            Value::Array(_) => Err(Error::field(name, "has too many items")),
            _ => Err(Error::field(name, "is not an array")),
        }
    }
}

pub(crate) fn to_bytes(value: Value, name: &'static str, bytes_max: usize) -> Result<Bytes, Error> {
    match value {
        Value::Bytes(bytes) if bytes.len() <= bytes_max => Ok(bytes.into()),
        Value::Bytes(_) => Err(Error::field(name, "is too long")),
        _ => Err(Error::field(name, "is not bytes")),
    }
}

pub(crate) fn to_hash(value: &Value, name: &'static str) -> Result<B256, Error> {
    match value.as_bytes().map(<[u8; 32]>::try_from) {
        Some(Ok(hash)) => Ok(hash.into()),
        _ => Err(Error::field(name, "is not 32 bytes")),
    }
}

/// A number of up to 256 bits as [`Fields::u256`] reads it.
pub(crate) fn u256_value(number: U256) -> Value {
    Value::Bytes(number.to_be_bytes_trimmed_vec())
}
