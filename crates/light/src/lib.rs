//! Check headers, certificates and inclusion proofs.
