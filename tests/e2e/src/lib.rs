//! Run real binaries against third-party clients.
