//! How Solidity lays out storage.
//!
//! Only the rules that genesis and storage proofs need: mappings, dynamic arrays, `bytes` and `string`.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};

/// Storage of one account.
pub type Storage = BTreeMap<B256, B256>;

/// Slot of `mapping[key]` for a mapping at `slot`.
pub fn mapping_slot(key: B256, slot: U256) -> U256 {
    let mut preimage = [0; 64];
    let (head, tail) = preimage.split_at_mut(32);
    head.copy_from_slice(key.as_slice());
    tail.copy_from_slice(&slot.to_be_bytes::<32>());
    keccak256(preimage).into()
}

/// Slot of the first element of a dynamic array (or of the bytes of a long `bytes`) at `slot`.
pub fn data_slot(slot: U256) -> U256 {
    keccak256(slot.to_be_bytes::<32>()).into()
}

/// A mapping key that is an address.
pub fn address_key(address: Address) -> B256 {
    address.into_word()
}

/// A mapping key or word that is a small number.
pub fn number_key(number: u64) -> B256 {
    U256::from(number).into()
}

/// Writes words, leaving out zeros as the chain does.
#[derive(Debug, Default)]
pub struct Writer {
    words: Storage,
}

impl Writer {
    /// Sets one slot.
    pub fn word(&mut self, slot: U256, value: U256) {
        if value.is_zero() {
            self.words.remove(&B256::from(slot));
        } else {
            self.words.insert(slot.into(), value.into());
        }
    }

    /// Sets a `bytes` or `string`: up to 31 bytes share the slot with twice their length; longer ones keep
    /// 2 * length + 1 there and their bytes from [`data_slot`] on.
    pub fn bytes(&mut self, slot: U256, bytes: &[u8]) {
        let length = U256::from(bytes.len());
        if bytes.len() < 32 {
            let mut word = [0; 32];
            word[..bytes.len()].copy_from_slice(bytes);
            self.word(slot, U256::from_be_bytes(word) | (length << 1));
            return;
        }
        self.word(slot, (length << 1) | U256::ONE);
        let mut next = data_slot(slot);
        for chunk in bytes.chunks(32) {
            let mut word = [0; 32];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(next, U256::from_be_bytes(word));
            next = next.wrapping_add(U256::ONE);
        }
    }

    /// Sets a `uint8[]`: 32 elements a word, the first in the lowest byte.
    pub fn bytes_array(&mut self, slot: U256, elements: &[u8]) {
        self.word(slot, U256::from(elements.len()));
        let mut next = data_slot(slot);
        for chunk in elements.chunks(32) {
            self.word(next, U256::from_le_slice(chunk));
            next = next.wrapping_add(U256::ONE);
        }
    }

    /// The words written.
    pub fn finish(self) -> Storage {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    #[test]
    fn slots_follow_the_solidity_rules() {
        // keccak256 of 64 zero bytes, and of 32 zero bytes: the slots every debugger shows.
        assert_eq!(
            B256::from(mapping_slot(B256::ZERO, U256::ZERO)),
            b256!("ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5")
        );
        assert_eq!(
            B256::from(data_slot(U256::ZERO)),
            b256!("290decd9548b62a8d60345a988386fc84ba6bc95484008f6362f93160ef3e563")
        );
    }

    #[test]
    fn short_and_long_bytes_differ_at_32() {
        let mut writer = Writer::default();
        writer.bytes(U256::from(1), &[7; 31]);
        writer.bytes(U256::from(2), &[7; 32]);
        writer.bytes(U256::from(3), &[]);
        let words = writer.finish();
        assert_eq!(words.len(), 3);
        assert_eq!(words[&number_key(1)].as_slice()[31], 62);
        assert_eq!(words[&number_key(2)], number_key(65));
        assert_eq!(words[&B256::from(data_slot(U256::from(2)))], B256::repeat_byte(7));
    }

    #[test]
    fn a_byte_array_packs_from_the_lowest_byte() {
        let mut writer = Writer::default();
        writer.bytes_array(U256::from(4), &[0, 1, 2]);
        let words = writer.finish();
        assert_eq!(words[&number_key(4)], number_key(3));
        assert_eq!(words[&B256::from(data_slot(U256::from(4)))], number_key(0x02_01_00));
    }
}
