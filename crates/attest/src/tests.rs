//! Tests over whole documents: real ones, the shared synthetic ones, and chains built to be refused.

mod chains;
mod mutations;
mod vectors;

use std::path::PathBuf;

/// A shared vector file; `None`, with a line on stdout, when the folder is missing.
fn shared_vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        println!("SKIPPED {name}: no shared vectors");
        return None;
    }
    Some(std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// The bytes of a file of base64 text.
fn from_base64(text: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let text: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
