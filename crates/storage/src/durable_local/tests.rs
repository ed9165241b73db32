//! The local store under faults at every step, foreign files and hostile links.

use std::fs;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::error::Error;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

/// A store whose `nth` step from now fails with `errno`, and the trace of steps taken.
struct Rig {
    dir: tempfile::TempDir,
    store: DurableLocal,
    fail_in: Arc<AtomicU64>,
    errno: i32,
    trace: Arc<Mutex<Vec<Step>>>,
}

const NEVER: u64 = u64::MAX;

fn rig(errno: i32) -> Rig {
    let dir = tempfile::tempdir().expect("temporary directory");
    let fail_in = Arc::new(AtomicU64::new(NEVER));
    let trace = Arc::new(Mutex::new(Vec::new()));
    let (countdown, steps) = (Arc::clone(&fail_in), Arc::clone(&trace));
    let hook: StepHook = Arc::new(move |step| {
        steps.lock().expect("not poisoned").push(step);
        let left = countdown.load(Ordering::SeqCst);
        if left == NEVER {
            return Ok(());
        }
        countdown.store(if left == 0 { NEVER } else { left - 1 }, Ordering::SeqCst);
        if left == 0 { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
    });
    let store = DurableLocal::open_with_hook(&dir.path().join("root"), hook).expect("open");
    Rig { dir, store, fail_in, errno, trace }
}

impl Rig {
    fn put(&self, key: &str, mode: PutMode) -> object_store::Result<PutResult> {
        let options = PutOptions { mode, ..PutOptions::default() };
        block_on(self.store.put_opts(&Path::from(key), "content".into(), options))
    }

    fn temporaries(&self) -> usize {
        fs::read_dir(self.store.dir().join(".tmp")).expect("read").count()
    }

    fn content(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.store.dir().join(key)).ok()
    }
}

#[test]
fn a_put_syncs_the_file_before_its_name_and_the_name_before_it_returns() {
    let rig = rig(libc::EIO);
    rig.put("a/b/c", PutMode::Create).expect("put");
    let steps = rig.trace.lock().expect("not poisoned").clone();
    let made = [Step::MakeDir, Step::SyncDir, Step::MakeDir, Step::SyncDir];
    let written = [Step::Create, Step::Write, Step::Read, Step::SyncFile, Step::Publish];
    assert_eq!(steps, [made.as_slice(), written.as_slice(), &[Step::SyncDir]].concat());
}

#[test]
fn a_failure_at_any_step_leaves_no_partial_object_and_no_temporary_file() {
    for mode in [PutMode::Create, PutMode::Overwrite] {
        for nth in 0.. {
            let rig = rig(libc::EIO);
            if mode == PutMode::Overwrite {
                fs::create_dir_all(rig.store.dir().join("a")).expect("mkdir");
                fs::hard_link(old_file(&rig), rig.store.dir().join("a/b")).expect("old object");
            }
            rig.fail_in.store(nth, Ordering::SeqCst);
            let outcome = rig.put("a/b", mode.clone());
            assert_eq!(rig.temporaries(), 0, "step {nth} left a temporary file");
            let Err(error) = outcome else {
                assert!(5 < nth, "only {nth} steps can fail");
                break;
            };
            let Some(Error::Io { step, .. }) = Error::find_in(&error) else { panic!("{error:?}") };
            let visible = rig.content("a/b");
            let old = (mode == PutMode::Overwrite).then(|| "old".to_owned());
            let published = *step == Step::SyncDir && visible == Some("content".to_owned());
            assert!(visible == old || published, "step {step:?} shows {visible:?}");
            let again = rig.put("a/b", mode.clone());
            if *step == Step::SyncDir {
                let Err(refused) = again else { panic!("a write after a failed directory sync") };
                assert!(matches!(Error::find_in(&refused), Some(Error::Poisoned { .. })));
            } else {
                again.expect("museum M20: the next write succeeds in the same process");
            }
        }
    }
}

fn old_file(rig: &Rig) -> PathBuf {
    let path = rig.dir.path().join("old");
    alluvium_stdx::durable::write(&path, b"old").expect("write");
    path
}

#[test]
fn a_full_disk_is_told_apart_from_a_broken_one() {
    let rig = rig(libc::ENOSPC);
    rig.put("warm", PutMode::Create).expect("put");
    rig.fail_in.store(1, Ordering::SeqCst);
    let error = rig.put("k", PutMode::Create).expect_err("full");
    let found = Error::find_in(&error);
    assert!(matches!(found, Some(Error::Full { step: Step::Write, .. })), "{error:?}");
    assert_eq!(found.and_then(std::error::Error::source).map(ToString::to_string), {
        Some(io::Error::from_raw_os_error(rig.errno).to_string())
    });
}

#[test]
fn what_a_dead_writer_left_is_removed_at_open_and_never_listed() {
    let rig = rig(libc::EIO);
    rig.put("a/b", PutMode::Create).expect("put");
    alluvium_stdx::durable::write(&rig.store.dir().join(".tmp/dead"), b"half").expect("write");
    alluvium_stdx::durable::write(&rig.store.dir().join("a/.hidden"), b"x").expect("write");
    let listed =
        block_on(rig.store.list(None).map(|m| m.expect("meta").location).collect::<Vec<_>>());
    assert_eq!(listed, [Path::from("a/b")]);
    let reopened = DurableLocal::open(rig.store.dir()).expect("reopen");
    assert_eq!(rig.temporaries(), 0);
    assert_eq!(block_on(reopened.head(&Path::from("a/b"))).expect("kept").size, 7);
}

#[test]
fn no_link_below_the_root_is_followed_to_read_write_delete_or_list() {
    let rig = rig(libc::EIO);
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    alluvium_stdx::durable::write(&outside.join("secret"), b"secret").expect("write");
    let root = rig.store.dir().to_path_buf();
    std::os::unix::fs::symlink(&outside, root.join("dir")).expect("link");
    std::os::unix::fs::symlink(outside.join("secret"), root.join("file")).expect("link");
    for key in ["dir/secret", "file"] {
        let error = block_on(rig.store.get(&Path::from(key))).map(|_| ()).expect_err("link");
        let found = Error::find_in(&error);
        assert!(matches!(found, Some(Error::SymbolicLink { .. })), "{key}: {error:?}");
    }
    let put = rig.put("dir/new", PutMode::Create).expect_err("link");
    assert!(matches!(Error::find_in(&put), Some(Error::SymbolicLink { .. })), "{put:?}");
    let delete = block_on(rig.store.delete(&Path::from("dir/secret"))).expect_err("link");
    assert!(matches!(Error::find_in(&delete), Some(Error::SymbolicLink { .. })), "{delete:?}");
    assert_eq!(block_on(rig.store.list(None).count()), 0);

    // Replacing a link replaces the link, not what it points to.
    rig.put("file", PutMode::Overwrite).expect("put");
    assert_eq!(fs::read_to_string(outside.join("secret")).expect("read"), "secret");
    assert_eq!(rig.content("file").as_deref(), Some("content"));
}

#[test]
fn keys_outside_the_grammar_touch_no_file() {
    let rig = rig(libc::EIO);
    for text in [".tmp/x", "A", "a b", "%2e%2e/x", "a%00b"] {
        let put = rig.put(text, PutMode::Overwrite).expect_err("refused");
        assert!(matches!(Error::find_in(&put), Some(Error::Key { .. })), "{text}: {put:?}");
    }
    assert!(rig.trace.lock().expect("not poisoned").is_empty());
}

#[test]
fn an_upload_with_a_failed_or_abandoned_part_publishes_nothing() {
    let rig = rig(libc::EIO);
    let key = Path::from("k");
    let mut upload = block_on(rig.store.put_multipart(&key)).expect("start");
    rig.fail_in.store(0, Ordering::SeqCst);
    block_on(upload.put_part("one".into())).expect_err("the write fails");
    block_on(upload.complete()).map(|_| ()).expect_err("a part is missing");
    drop(upload);
    assert_eq!((rig.content("k"), rig.temporaries()), (None, 0));

    let mut abandoned = block_on(rig.store.put_multipart(&key)).expect("start");
    drop(abandoned.put_part("one".into()));
    block_on(abandoned.complete()).map(|_| ()).expect_err("a part was never written");
    drop(abandoned);
    assert_eq!((rig.content("k"), rig.temporaries()), (None, 0));
}

#[test]
fn the_store_answers_without_an_async_runtime() {
    let rig = rig(libc::EIO);
    let key = Path::from("k");
    futures::executor::block_on(rig.store.put(&key, "content".into())).expect("put");
    assert_eq!(rig.content("k").as_deref(), Some("content"));
}

#[test]
fn a_bucket_that_is_opened_to_read_shows_what_is_there_and_changes_nothing() {
    let rig = rig(libc::EIO);
    rig.put("data/a", PutMode::Create).expect("put");
    let leftover = rig.store.dir().join(".tmp").join("left");
    alluvium_stdx::durable::write(&leftover, b"half").expect("writes");
    let store = DurableLocal::open_to_read(rig.store.dir()).expect("opens");
    let read = block_on(async { store.get(&Path::from("data/a")).await?.bytes().await });
    assert_eq!(read.expect("reads"), "content");
    for key in ["data/a", "data/b"] {
        block_on(store.put(&Path::from(key), "other".into())).expect_err("refused");
    }
    block_on(store.delete(&Path::from("data/a"))).expect_err("refused");
    assert_eq!((rig.content("data/a").as_deref(), leftover.exists()), (Some("content"), true));
    DurableLocal::open_to_read(&rig.store.dir().join("absent")).expect_err("nothing is made");
}
