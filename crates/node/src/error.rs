use std::net::SocketAddr;

/// Why a node does not start or stop as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The chain's storage does not open.
    #[error("chain: {0}")]
    Chain(#[from] og_chain::Error),
    /// The RPC server cannot listen.
    #[error("rpc server on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Consensus does not start or stop.
    #[error("consensus: {0}")]
    Consensus(#[from] og_consensus::Error),
    /// No thread to seal blocks on.
    #[error("start the sealing thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A part of the node panicked.
    #[error("{0} panicked")]
    Panicked(&'static str),
}
