//! Store and fetch content by id.
//!
//! ```text
//! PUT /v1/blobs ─▶ http ─▶ LocalStore::put ─▶ temporary file, fsync, rename, fsync folder ─▶ id = SHA-256
//! GET /v1/blobs/{id} ─▶ http ─▶ LocalStore::get ─▶ read, hash, compare with the id ─▶ content
//! ```
//!
//! The id of a blob is the SHA-256 of its content, written as unpadded base64url (43 characters). A store is not
//! trusted by anybody: whoever reads compares the content with the id, this crate included.
//!
//! | Module | Holds |
//! |---|---|
//! | [`id`] | ids and their text form |
//! | [`local`] | the store in a folder |
//! | [`http`] | its HTTP face, in the shape of Walrus publishers and aggregators |

pub mod http;
pub mod id;
pub mod local;

pub use http::router;
pub use id::BlobId;
pub use local::{Error, Limits, LocalStore, Put};
