//! Run a validator or full node: p2p, sync, RPC.
