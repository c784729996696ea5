//! Store and fetch content by id.
