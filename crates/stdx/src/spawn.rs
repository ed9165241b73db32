//! Tasks and threads as a seam: the engine hands out tokio, the simulator a seeded run queue.
//!
//! Nothing else in Alluvium may spawn (`.clippy.toml`), so every task has a name and an owner.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use crate::Prng;

/// Starts named work. A task that panics must not be lost in silence: implementations report it.
pub trait Spawner: Send + Sync + std::fmt::Debug {
    /// Runs a future to its end beside the caller.
    fn task(&self, name: &'static str, future: BoxFuture<'static, ()>);
}

/// Starts a named operating-system thread: for loops that block on a disk.
///
/// # Errors
/// When the system has no thread left.
pub fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a named operating-system thread with a stack of its own size: for work that recurses over what a
/// caller sent. Pages that are never touched cost nothing.
///
/// # Errors
/// When the system has no thread left, or no room for the stack.
pub fn deep_thread<T: Send + 'static>(
    name: &'static str,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
    std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(work)
}

/// The most threads that one piece of work is shared between.
const WORKERS_MAX: usize = 4;

/// Returns how many threads a piece of work is worth sharing between on this machine.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Works on items side by side and returns what came out in their order. The caller is one of the workers;
/// the others have its priority, and end before this returns. A worker that the system has no thread for is
/// done without.
///
/// # Panics
/// When the work on an item does.
pub fn side_by_side<I: Send, T: Send>(
    name: &'static str,
    workers: usize,
    items: Vec<I>,
    work: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    let others = workers.min(items.len()).saturating_sub(1);
    let waiting = Mutex::new(items.into_iter().enumerate());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let share = || {
        let mut done = Vec::new();
        while let Some((position, item)) = next() {
            done.push((position, work(item)));
        }
        done
    };
    #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
    let mut done = std::thread::scope(|scope| {
        let start =
            |_| std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, share);
        let started: Vec<_> = (0..others).map_while(|other| start(other).ok()).collect();
        let mut done = share();
        for worker in started {
            done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(position, _)| *position);
    done.into_iter().map(|(_, result)| result).collect()
}

/// How far a thread stands back behind others, as nice(2) counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandBack {
    /// Behind consensus and its callers: for queries.
    Some,
    /// Behind every other thread: for materialization. Not the idle class: an idle thread may starve for ever.
    Most,
}

/// Lets other threads go before the calling one, so that the log's writer is never kept waiting by it. Threads that
/// it starts stand back as far.
///
/// # Errors
/// The failure of setpriority.
pub fn stand_back(by: StandBack) -> std::io::Result<()> {
    let nice = match by {
        StandBack::Some => 5,
        StandBack::Most => 19,
    };
    #[expect(unsafe_code, reason = "the standard library sets no priority")]
    // SAFETY: no memory is passed; on Linux zero names the calling thread alone.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Runs each task on a thread of its own: for tools and tests that have no runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn task(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        thread(name, move || futures::executor::block_on(future))
            .expect("a tool that cannot start a thread cannot go on");
    }
}

/// The simulator's run queue: one thread, and the next ready task is chosen by the seed.
///
/// Choosing at random explores interleavings that a first-in-first-out queue never shows.
#[derive(Debug, Clone)]
pub struct SeededSpawner {
    shared: SharedQueue,
}

/// Wakers need the queue too, and `Waker` asks for `Send`; in the simulator the lock is never contended.
type SharedQueue = Arc<Mutex<Queue>>;

struct Queue {
    prng: Prng,
    tasks: Vec<Option<BoxFuture<'static, ()>>>,
    ready: Vec<usize>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue {{ tasks: {}, ready: {:?} }}", self.tasks.len(), self.ready)
    }
}

struct TaskWaker {
    shared: SharedQueue,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut queue = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.ready.contains(&self.task) {
            queue.ready.push(self.task);
        }
    }
}

impl SeededSpawner {
    /// Returns an empty queue whose choices follow `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let queue = Queue { prng: Prng::from_seed(seed), tasks: Vec::new(), ready: Vec::new() };
        Self { shared: Arc::new(Mutex::new(queue)) }
    }

    /// Runs ready tasks until none is ready; returns how many polls that took.
    pub fn run_until_idle(&self) -> u64 {
        let mut polls = 0;
        while let Some((task, future)) = self.take_ready() {
            polls += 1;
            self.poll(task, future);
        }
        polls
    }

    /// Returns how many tasks have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.lock().tasks.iter().filter(|task| task.is_some()).count()
    }

    fn take_ready(&self) -> Option<(usize, BoxFuture<'static, ()>)> {
        let mut queue = self.lock();
        while !queue.ready.is_empty() {
            let bound = u64::try_from(queue.ready.len()).unwrap_or(u64::MAX);
            let at = usize::try_from(queue.prng.below(bound)).unwrap_or(0);
            let task = queue.ready.swap_remove(at);
            if let Some(future) = queue.tasks.get_mut(task).and_then(Option::take) {
                return Some((task, future));
            }
        }
        None
    }

    fn poll(&self, task: usize, mut future: BoxFuture<'static, ()>) {
        let waker = Waker::from(Arc::new(TaskWaker { shared: Arc::clone(&self.shared), task }));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {}
            Poll::Pending => {
                if let Some(slot) = self.lock().tasks.get_mut(task) {
                    *slot = Some(future);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spawner for SeededSpawner {
    fn task(&self, _name: &'static str, future: BoxFuture<'static, ()>) {
        let mut queue = self.lock();
        let task = queue.tasks.len();
        queue.tasks.push(Some(future));
        queue.ready.push(task);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::{mpsc, oneshot};

    use super::*;

    fn order_of(seed: u64) -> Vec<u32> {
        let spawner = SeededSpawner::new(seed);
        let (sender, mut receiver) = mpsc::channel(16);
        for id in 0..8_u32 {
            let mut sender = sender.clone();
            spawner.task("send", async move { sender.try_send(id).expect("has room") }.boxed());
        }
        spawner.run_until_idle();
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn work_side_by_side_comes_back_in_order_however_many_share_it() {
        for workers in [0, 1, 3, 50] {
            let squares = side_by_side("square", workers, (0..20_u64).collect(), |n| n * n);
            assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<u64>>());
        }
        assert!(side_by_side("nothing", 3, Vec::<u64>::new(), |n| n).is_empty());
    }

    #[test]
    fn a_panic_on_one_item_is_the_callers() {
        let work = |n: u32| assert!(n != 7, "seven");
        let panicked =
            std::panic::catch_unwind(|| side_by_side("panic", 3, (0..9).collect(), work));
        panicked.expect_err("it must not be lost with its thread");
    }

    #[test]
    fn a_seed_decides_the_order_and_another_seed_another() {
        assert_eq!(order_of(1), order_of(1));
        assert_ne!(order_of(1), order_of(2));
    }

    #[test]
    fn a_task_that_waits_runs_on_when_it_is_woken() {
        let spawner = SeededSpawner::new(0);
        let (sender, receiver) = oneshot::channel::<u8>();
        spawner.task("wait", receiver.map(|got| assert_eq!(got, Ok(5))).boxed());
        spawner.run_until_idle();
        assert_eq!(spawner.unfinished(), 1);
        sender.send(5).expect("the receiver is alive");
        spawner.run_until_idle();
        assert_eq!(spawner.unfinished(), 0);
    }
}
