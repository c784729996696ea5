//! Stand in for the outside world in tests: mock upstream, accounts, processes.
//!
//! Tests only; no service depends on this crate. Nothing here needs a fixed port, and nothing waits by sleeping alone:
//! every wait has a condition and a deadline, and says what it waited for.
//!
//! | Module | Holds |
//! |---|---|
//! | [`upstream`] | an OpenAI-compatible server with deterministic answers and failures on demand |
//! | [`devnet`] | `devnet.json`, as third parties read it |
//! | [`process`] | run the real `og` binary: ready file, kill, logs |
//! | [`clients`] | third-party clients in environments of their own, from lock files |
//! | [`fuzz`] | seeded mutation of a committed corpus |
//! | [`wheels`] | files out of pinned Python wheels, fetched once |
//! | [`rpc`] | just enough JSON-RPC to read two chains without our own client |

pub mod clients;
#[cfg(feature = "network")]
pub mod devnet;
pub mod fuzz;
#[cfg(feature = "network")]
pub mod process;
#[cfg(feature = "network")]
pub mod rpc;
#[cfg(feature = "network")]
pub mod upstream;
pub mod wheels;
