//! That a certificate covers a block, directly or through a descendant.

use alloy_primitives::B256;

use crate::certificate::verify_certificate;
use crate::error::Error;
use crate::header::Header;
use crate::validators::ValidatorSet;

/// Most headers between a certified block and the wanted one, both included.
pub const HEADERS_MAX: usize = 1024;

/// Checks that a block is final and gives its header.
///
/// `headers` are RLP headers from the certified block (first) down to the wanted one (last), each the parent of the
/// one before; a single header means that the certificate is for the wanted block itself.
///
/// # Errors
///
/// The `Certificate…` and `Header…` variants of [`Error`], one per check.
pub fn verify_finality(
    set: &ValidatorSet,
    genesis_hash: B256,
    certificate: &[u8],
    headers: &[impl AsRef<[u8]>],
) -> Result<Header, Error> {
    let count = headers.len();
    if count > HEADERS_MAX {
        return Err(Error::HeaderCount { count, max: HEADERS_MAX });
    }
    let certified = verify_certificate(set, genesis_hash, certificate)?.payload;
    let mut wanted: Option<Header> = None;
    for (index, rlp) in headers.iter().enumerate() {
        let header = Header::decode(rlp.as_ref())?;
        let expected = wanted.as_ref().map_or(certified, |child| child.parent_hash);
        if header.hash != expected {
            return Err(Error::HeaderHash { index, found: header.hash, expected });
        }
        if let Some(child) = &wanted {
            let expected = child.number.wrapping_sub(1);
            if header.number != expected {
                return Err(Error::HeaderNumber { index, found: header.number, expected });
            }
        }
        wanted = Some(header);
    }
    wanted.ok_or(Error::HeaderCount { count, max: HEADERS_MAX })
}
