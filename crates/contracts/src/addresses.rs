//! Where everything stands.
//!
//! What the official clients hard-code stands at their address; the rest is our own choice.

use alloy_primitives::{Address, address};

/// The registry of attested enclaves (the official SDK's default).
pub const TEE_REGISTRY: Address = address!("703cB174AEadB35D611858369B4b1111dC9Abda6");
/// The registry address of an older client generation; answers reads by asking [`TEE_REGISTRY`].
pub const TEE_REGISTRY_ALIAS: Address = address!("4e72238852f3c918f4E4e57AeC9280dDB0c80248");
/// The inference and batch verifier (default of the browser package).
pub const INFERENCE_VERIFIER: Address = address!("626D71947f59E6574bDfAdA8eE48E4C96FF4203b");
/// The verifier address of an older browser package; the same contract a second time.
pub const INFERENCE_VERIFIER_OLDER: Address = address!("a06dAFA3D713b74e4e1E74B34bd1588C9FD6C290");
/// The settlement relay. Official clients take it from their environment, so the address is our own.
pub const SETTLEMENT_RELAY: Address = address!("4f47000000000000000000000000000000000001");

/// Native legacy TEE verifier.
pub const TEE_VERIFIER_PRECOMPILE: Address = address!("0000000000000000000000000000000000000900");
/// Native evidence verifier.
pub const EVIDENCE_PRECOMPILE: Address = address!("0000000000000000000000000000000000000901");

/// Native verifier of inferences.
pub const INFERENCE_PRECOMPILE: Address = address!("0000000000000000000000000000000000000903");

/// The OPG token on Base.
pub const OPG: Address = address!("FbC2051AE2265686a469421b2C5A2D5462FbF5eB");
/// USDC on Base.
pub const USDC: Address = address!("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
/// Permit2, on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// Settles x402 `exact` payments over Permit2.
pub const X402_EXACT_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");
/// Settles x402 `upto` payments over Permit2.
pub const X402_UPTO_PROXY: Address = address!("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");
/// Multicall3, on every chain.
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// The deterministic deployment proxy (CREATE2), on every chain.
pub const CREATE2_DEPLOYER: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
/// Safe's singleton factory: the same proxy at another address.
pub const SAFE_SINGLETON_FACTORY: Address = address!("914d7Fec6aaC8cd542e72Bca78B30650d45643d7");
