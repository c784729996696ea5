//! Run a model: one trait, engines behind it.
