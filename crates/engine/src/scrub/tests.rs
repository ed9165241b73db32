//! A scrub reads log, snapshots and files, no faster than it is let, and names what is damaged.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::{Caller, Config, RegisterOptions};

/// Opens a node with closed segments, a snapshot and a data file.
async fn node(dir: &Path) -> Node {
    let config = Config { segment_bytes: 256 * 1024, ..Config::single(dir) };
    let node = Node::open(config).await.expect("opens");
    let caller = Caller::named("test");
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
    node.register(&caller, "t", Arc::clone(&schema), RegisterOptions::keyed(&[]))
        .await
        .expect("new");
    for number in 0..6 {
        let values = Int64Array::from_iter_values((0..10_000).map(|row| row * 1_000 + number));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(values)]);
        node.append(&caller, "t", vec![batch.expect("one column")]).await.expect("fits");
    }
    node.seal(&caller, "t").await.expect("seals");
    node.raft().trigger_snapshot().await.expect("is taken");
    node
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path, end)),
            false if path.to_string_lossy().ends_with(end) => found.push(path),
            false => {}
        }
    }
    found
}

fn bytes_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| std::fs::metadata(file).expect("is there").len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_asks_for_every_byte_of_log_snapshots_and_files_before_it_goes_on() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = node(root.path()).await;
    let mut log_bytes = 0;
    let count = &mut |bytes| {
        log_bytes += bytes;
        ControlFlow::Continue(())
    };
    let log = alluvium_wal::inspect::scrub(node.log_reader(), count).expect("reads");
    assert!(log.segments >= 1 && log_bytes > 128 * 1024, "{log:?}");
    let snapshots = bytes_of(&files(root.path(), ".alvs"));
    let data = bytes_of(&files(root.path(), ".parquet"));
    assert!(snapshots > 0 && data > 0);

    let asked = AtomicU64::new(0);
    let mut granted = |bytes: u64| {
        asked.fetch_add(bytes, Ordering::SeqCst);
        std::future::ready(())
    };
    assert_eq!(pass(&node, &mut granted).await.expect("looks"), Vec::<String>::new());
    assert_eq!(asked.load(Ordering::SeqCst), log_bytes + snapshots + data);

    // Whoever is not let go on has read one portion of the log, and asks for no second one.
    let (first, second) = (tokio::sync::Notify::new(), AtomicU64::new(0));
    let mut never = |_bytes: u64| {
        second.fetch_add(1, Ordering::SeqCst);
        first.notify_one();
        std::future::pending::<()>()
    };
    tokio::select! {
        _ = pass(&node, &mut never) => panic!("it went on without being let"),
        () = first.notified() => {}
    }
    assert_eq!(second.load(Ordering::SeqCst), 1);
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_names_a_damaged_snapshot_and_a_damaged_segment() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = node(root.path()).await;
    let mut granted = |_bytes: u64| std::future::ready(());
    assert_eq!(pass(&node, &mut granted).await.expect("looks"), Vec::<String>::new());
    let snapshot = files(root.path(), ".alvs").pop().expect("was taken");
    let mut segments = files(&root.path().join("wal"), "");
    segments.retain(|path| path.to_string_lossy().contains("segment-"));
    segments.sort();
    for path in [&snapshot, &segments[0]] {
        let bytes = std::fs::read(path).expect("reads");
        let middle = bytes.iter().rposition(|&byte| byte != 0).expect("is not empty") / 2;
        // In place: the log has its files open.
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("is there");
        file.write_all_at(&[bytes[middle] ^ 1], middle as u64).expect("writes");
    }
    let found = pass(&node, &mut granted).await.expect("looks");
    let [log, snap] = &found[..] else { panic!("{found:?}") };
    assert!(log.starts_with("log: segment 1 is damaged at offset "), "{log}");
    assert!(snap.starts_with(&format!("snapshot {}: ", snapshot.display())), "{snap}");
    node.shutdown().await.expect("stops");
}
