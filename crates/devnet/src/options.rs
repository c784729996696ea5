//! What a devnet is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Where the services listen; always on the loopback interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// Whatever is free.
    Auto,
    /// A row of ports from here on.
    From(u16),
}

/// The services that listen, in the order of their ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// JSON-RPC of the OpenGradient chain.
    Network = 0,
    /// JSON-RPC of the payment chain.
    Payment = 1,
    /// The gateway.
    Gateway = 2,
    /// The facilitator.
    Facilitator = 3,
    /// The blob store.
    Store = 4,
}

/// Ports after this many are the validators' own.
const VALIDATOR_OFFSET: u16 = 10;

impl Ports {
    /// Where a service listens.
    pub(crate) fn of(self, service: Service) -> SocketAddr {
        self.at(service as u16)
    }

    /// Where the validators listen, in seat order; `None` leaves it to the system.
    pub(crate) fn validators(self, count: u8) -> Option<Vec<SocketAddr>> {
        match self {
            Self::Auto => None,
            Self::From(_) => {
                Some((0..u16::from(count)).map(|seat| self.at(VALIDATOR_OFFSET + seat)).collect())
            }
        }
    }

    fn at(self, offset: u16) -> SocketAddr {
        let port = match self {
            Self::Auto => 0,
            Self::From(base) => base.saturating_add(offset),
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// An OpenAI-compatible service offered beside the local model.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Base URL, ending in `/v1`.
    pub base_url: String,
    /// Which of its models to offer; empty means those it lists.
    pub models: Vec<String>,
}

/// What is happening, for whoever watches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The local model: being downloaded, checked, loaded.
    Model(String),
    /// Both chains answer.
    ChainsUp {
        /// Milliseconds since the start.
        after_ms: u64,
    },
    /// The gateway's (simulated) enclave made its keys and its evidence.
    EnclaveUp,
    /// Payments and evidence of earlier enclaves are being settled.
    SettlingEarlier {
        /// How many.
        open: usize,
    },
    /// The registry accepted the enclave's evidence.
    Registered,
    /// Everything accepts requests.
    Ready {
        /// Milliseconds since the start.
        after_ms: u64,
    },
}

/// Who watches.
pub type Watcher = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a devnet is told.
#[derive(Clone)]
pub struct Options {
    /// Validators of the OpenGradient chain, at least one. A used directory keeps the number it was founded with.
    pub validators: u8,
    /// Where the network lives.
    pub data_dir: PathBuf,
    /// Where model files are cached.
    pub cache_dir: PathBuf,
    /// Where services listen.
    pub ports: Ports,
    /// A service offered beside the local model.
    pub upstream: Option<Upstream>,
    /// Whether the local model is loaded and offered.
    pub local_model: bool,
    /// Told what is happening.
    pub watcher: Watcher,
}

impl core::fmt::Debug for Options {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Options")
            .field("validators", &self.validators)
            .field("data_dir", &self.data_dir)
            .field("ports", &self.ports)
            .field("upstream", &self.upstream)
            .field("local_model", &self.local_model)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_ports_of_their_own() {
        let ports = Ports::From(8500);
        assert_eq!(ports.of(Service::Network).port(), 8500);
        assert_eq!(ports.of(Service::Store).port(), 8504);
        let validators = ports.validators(4).unwrap();
        assert_eq!(validators.first().unwrap().port(), 8510);
        assert_eq!(validators.len(), 4);
        assert_eq!(Ports::Auto.of(Service::Gateway).port(), 0);
        assert!(Ports::Auto.validators(4).is_none());
    }
}
