//! Tests over whole receipts and bundles, built in a small world of pure parts.

mod mutations;
mod receipts;
mod vectors;
mod verdicts;
mod world;
