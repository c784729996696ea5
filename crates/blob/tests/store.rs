//! The store on disk and over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

use std::fs;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use og_blob::*;
use serde_json::Value;
use tower::ServiceExt as _;

fn open(folder: &tempfile::TempDir, limits: Limits) -> LocalStore {
    LocalStore::open(folder.path(), limits).unwrap()
}

fn only_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let shelf = fs::read_dir(folder.path().join("blobs")).unwrap().next().unwrap().unwrap();
    fs::read_dir(shelf.path()).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn content_is_stored_once_and_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    let first = store.put_blocking(b"hello").unwrap();
    assert!(first.newly_created);
    assert_eq!(first.id.to_string(), "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
    assert!(!store.put_blocking(b"hello").unwrap().newly_created);
    assert_eq!(store.put_blocking(b"").unwrap().id, BlobId::of(b""));
    fs::write(folder.path().join("unfinished/0"), b"torn").unwrap();
    drop(store);
    let store = open(&folder, Limits::default());
    assert_eq!(store.get_blocking(first.id).unwrap(), Some(Bytes::from_static(b"hello")));
    assert_eq!(store.get_blocking(BlobId([0; 32])).unwrap(), None);
    assert_eq!(fs::read_dir(folder.path().join("unfinished")).unwrap().count(), 0);
}

#[test]
fn damaged_content_is_never_returned_and_is_healed_by_storing_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    let id = store.put_blocking(b"evidence").unwrap().id;
    fs::write(only_file(&folder), b"evidencf").unwrap();
    assert!(matches!(store.get_blocking(id), Err(Error::Corrupt { .. })));
    assert!(store.put_blocking(b"evidence").unwrap().newly_created);
    assert_eq!(store.get_blocking(id).unwrap().unwrap(), "evidence");
}

#[test]
fn limits_hold_and_are_counted_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { blob_bytes_max: 4, store_bytes_max: 6 };
    let store = open(&folder, limits);
    assert!(matches!(store.put_blocking(b"12345"), Err(Error::TooLarge { len: 5, max: 4 })));
    store.put_blocking(b"1234").unwrap();
    assert!(matches!(store.put_blocking(b"abc"), Err(Error::Full { max: 6 })));
    let store = open(&folder, limits);
    assert!(matches!(store.put_blocking(b"abc"), Err(Error::Full { max: 6 })));
    store.put_blocking(b"ab").unwrap();
}

#[test]
fn ids_have_one_spelling() {
    let id = BlobId::of(b"hello");
    assert_eq!(id.to_string().parse(), Ok(id));
    let text = id.to_string();
    let other_tail = text[..42].to_owned() + "R";
    for wrong in
        ["", "..", "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", &text[..42], &other_tail]
    {
        assert_eq!(wrong.parse::<BlobId>(), Err(id::NotABlobId), "{wrong}");
    }
    assert!("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ".parse::<BlobId>().is_err());
}

#[tokio::test]
async fn storing_from_many_tasks_leaves_one_good_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    let content = Bytes::from(vec![7; 100_000]);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (store, content) = (store.clone(), content.clone());
            tokio::spawn(async move { store.put(content).await.unwrap().id })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), BlobId::of(&content));
    }
    assert_eq!(store.get(BlobId::of(&content)).await.unwrap(), Some(content));
}

async fn ask(router: &Router, method: Method, path: &str, body: &[u8]) -> (StatusCode, Bytes) {
    let request =
        Request::builder().method(method).uri(path).body(Body::from(body.to_vec())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap())
}

#[tokio::test]
async fn http_speaks_walrus_and_refuses_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { blob_bytes_max: 8, store_bytes_max: 8 };
    let router = router(open(&folder, limits));
    let json = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap();

    let (status, body) = ask(&router, Method::PUT, "/v1/blobs?epochs=10", b"hello").await;
    let created = json(&body);
    assert_eq!(status, StatusCode::OK);
    let id = created["newlyCreated"]["blobObject"]["blobId"].as_str().unwrap().to_owned();
    assert_eq!(id, BlobId::of(b"hello").to_string());
    assert_eq!(created["newlyCreated"]["blobObject"]["size"], 5);
    let (status, body) = ask(&router, Method::PUT, "/v1/blobs", b"hello").await;
    assert_eq!(
        (status, &json(&body)["alreadyCertified"]["blobId"]),
        (StatusCode::OK, &Value::from(id.clone()))
    );
    let (status, body) = ask(&router, Method::GET, &format!("/v1/blobs/{id}"), b"").await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, b"hello".as_slice()));

    let absent = format!("/v1/blobs/{}", BlobId::of(b"absent"));
    for (method, path, content, status, code) in [
        (Method::GET, absent.as_str(), b"".as_slice(), StatusCode::NOT_FOUND, "blob_not_found"),
        (Method::GET, "/v1/blobs/..%2f..%2fetc", b"", StatusCode::BAD_REQUEST, "invalid_blob_id"),
        (Method::PUT, "/v1/blobs", b"123456789", StatusCode::PAYLOAD_TOO_LARGE, "blob_too_large"),
        (Method::PUT, "/v1/blobs", b"1234", StatusCode::INSUFFICIENT_STORAGE, "store_full"),
        (Method::GET, "/", b"", StatusCode::NOT_FOUND, "not_found"),
        (Method::DELETE, "/v1/blobs", b"", StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
    ] {
        let (got, body) = ask(&router, method, path, content).await;
        let error = &json(&body)["error"];
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{path}");
        assert!(error["message"].is_string() && error["retryable"].is_boolean());
    }
    fs::write(only_file(&folder), b"hellp").unwrap();
    let (status, body) = ask(&router, Method::GET, &format!("/v1/blobs/{id}"), b"").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(json(&body)["error"]["code"], "blob_corrupt");
}
