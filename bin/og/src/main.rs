//! The og command: every role of the network, the client and the developer's network.
fn main() {}
