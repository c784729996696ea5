//! The trait behind which evidence is made. Drivers that talk to hardware live in the services.

use thiserror::Error;

/// Why no evidence could be made.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DriverError {
    /// The device refuses or cannot be reached.
    #[error("attestation device: {0}")]
    Device(String),
    /// What shall be attested does not fit into a document.
    #[error("{what} of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Which field.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// Something that yields evidence about the enclave it runs in (RFC 9334's attester).
pub trait Attester: Send + Sync {
    /// Evidence over `nonce`, `user_data` and `public_key`, made at `now_ms` (milliseconds since 1970; hardware
    /// uses its own clock).
    ///
    /// # Errors
    /// When the device fails or a field is too large.
    fn evidence(
        &self,
        nonce: &[u8],
        user_data: &[u8],
        public_key: &[u8],
        now_ms: u64,
    ) -> Result<Vec<u8>, DriverError>;

    /// Whether the enclave is only simulated.
    fn is_simulated(&self) -> bool;
}
