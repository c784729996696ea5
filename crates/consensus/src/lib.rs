//! Agree on blocks.
