//! Verify and settle payments; anchor evidence.
