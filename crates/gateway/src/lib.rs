//! Serve inference from inside an enclave, signed and metered.
