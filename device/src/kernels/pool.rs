//! Threads that share the work of one step.
//!
//! A network has some sixty steps, each tens of microseconds on a fast core: starting threads for each
//! would cost more than it gains. The workers live as long as the plan, look for the next step for a
//! moment, and then sleep until a picture comes.

use std::{
    cell::UnsafeCell,
    fmt, hint,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a worker looks for work before it sleeps: longer than any pause between two steps, short
/// beside the pause between two pictures.
const LOOK: Duration = Duration::from_micros(200);
/// Threads no board of ours has more of.
const MOST: usize = 16;

type Job = dyn Fn(usize) + Sync;

/// The caller and its workers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs.
    busy: Mutex<()>,
}

struct Shared {
    /// The job of this round, there while `left` is above 0.
    job: UnsafeCell<Option<*const Job>>,
    round: AtomicUsize,
    /// Workers that have not finished this round.
    left: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written by the one thread that holds `busy`, while no worker is in a round (`left`
// is 0), and read by workers only after they saw `round` change, which is stored after it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used under the rule above alone; the rest is `Send`.
unsafe impl Send for Shared {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// The caller's thread alone.
    #[cfg(test)]
    pub fn alone() -> Self {
        Self::new(1)
    }

    /// The caller and `threads` − 1 workers; fewer where the system gives no more.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            round: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.min(MOST)).map_while(|part| {
            let shared = Arc::clone(&shared);
            // the kernels keep little on the stack
            let thread = thread::Builder::new().name(format!("int8-{part}")).stack_size(256 << 10);
            thread.spawn(move || shared.work(part)).ok()
        });
        let workers = workers.collect();
        Self { shared, workers, busy: Mutex::new(()) }
    }

    /// Threads, the caller's too.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` with each of 0 to `threads()` − 1, at the same time, and returns when all are done.
    ///
    /// # Panics
    /// When `job` did.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        // A second picture at the same time has its own thread: it does all of its work there.
        let busy = match self.workers.is_empty() {
            true => None,
            false => match self.busy.try_lock() {
                Ok(guard) => Some(guard),
                // a job panicked, and was waited for all the same
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            },
        };
        let Some(_busy) = busy else { return (0..self.threads()).for_each(job) };
        let shared = &*self.shared;
        let pointer: *const (dyn Fn(usize) + Sync + '_) = job;
        // SAFETY: only the lifetime changes; `Finish` waits for the last use, a panic here included.
        let pointer =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(pointer) };
        // SAFETY: `busy` is held and `left` is 0: nobody else looks at it.
        unsafe { *shared.job.get() = Some(pointer) };
        shared.panicked.store(false, SeqCst);
        shared.left.store(self.workers.len(), SeqCst);
        shared.round.fetch_add(1, SeqCst);
        let finish = Finish(shared);
        if shared.sleepers.load(SeqCst) > 0 {
            let _lock = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        job(0);
        drop(finish);
        assert!(!shared.panicked.load(SeqCst), "a kernel failed in another thread");
    }
}

/// Waits for the workers, whatever happens.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut turns = 0u32;
        while self.0.left.load(SeqCst) > 0 {
            pause(&mut turns);
        }
    }
}

/// A short wait; after some, others may have the processor.
fn pause(turns: &mut u32) {
    *turns = turns.saturating_add(1);
    match *turns < 100 {
        true => hint::spin_loop(),
        false => thread::yield_now(),
    }
}

impl Shared {
    fn work(&self, part: usize) {
        let mut seen = 0;
        while let Some(round) = self.next(seen) {
            seen = round;
            // SAFETY: a new round: the job is there until this worker has counted itself off.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                // SAFETY: `run` does not return before `left` is 0, so the closure is alive.
                let job = unsafe { &*job };
                if catch_unwind(AssertUnwindSafe(|| job(part))).is_err() {
                    self.panicked.store(true, SeqCst);
                }
            }
            self.left.fetch_sub(1, SeqCst);
        }
    }

    /// The next round; `None` when there will be none.
    fn next(&self, seen: usize) -> Option<usize> {
        let ready = || match (self.stop.load(SeqCst), self.round.load(SeqCst)) {
            (true, _) => Some(None),
            (false, round) if round != seen => Some(Some(round)),
            _ => None,
        };
        let (start, mut turns) = (Instant::now(), 0);
        loop {
            if let Some(found) = ready() {
                return found;
            }
            pause(&mut turns);
            if turns.is_multiple_of(64) && start.elapsed() > LOOK {
                break;
            }
        }
        let mut lock = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before the last look: whoever starts a round after it sees a sleeper and wakes it.
        self.sleepers.fetch_add(1, SeqCst);
        let found = loop {
            if let Some(found) = ready() {
                break found;
            }
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, SeqCst);
        found
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let _lock = self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// The `part`th of `parts` equal pieces of `0..count`.
pub(crate) fn piece(count: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    count * part / parts..count * (part + 1) / parts
}

/// Memory that several threads write, each a part of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    first: *mut i8,
    length: usize,
}

// SAFETY: whoever writes through it promises that no two threads write the same bytes.
unsafe impl Send for Shares {}
// SAFETY: as above.
unsafe impl Sync for Shares {}

impl Shares {
    pub fn new(all: &mut [i8]) -> Self {
        Self { first: all.as_mut_ptr(), length: all.len() }
    }

    /// From byte `at` on.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn from(&self, at: usize) -> *mut i8 {
        assert!(at < self.length);
        // SAFETY: inside of the one slice it was made from.
        unsafe { self.first.add(at) }
    }

    /// The bytes of `range`: for whoever is the only one to touch them.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn slice(&self, range: std::ops::Range<usize>) -> *mut [i8] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: inside of the one slice it was made from.
        std::ptr::slice_from_raw_parts_mut(unsafe { self.first.add(range.start) }, range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_a_round() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=300 {
                pool.run(&|part| {
                    counts[part].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|count| count.load(SeqCst) == round));
                // let them fall asleep now and then
                if round % 100 == 0 {
                    thread::sleep(2 * LOOK);
                }
            }
        }
    }

    #[test]
    fn a_panic_comes_out_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for bad in 0..3 {
            let run = || pool.run(&|part| assert_ne!(part, bad));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "part {bad}");
            // and still in three threads
            let threads = Mutex::new(Vec::new());
            pool.run(&|_| threads.lock().unwrap().push(thread::current().id()));
            let mut threads = threads.into_inner().unwrap();
            threads.dedup();
            assert_eq!(threads.len(), 3);
        }
    }

    #[test]
    fn two_callers_do_not_meet() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(&|part| {
                            total.fetch_add(part + 1, SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(SeqCst), 4 * 200 * 3);
    }

    #[test]
    fn pieces_cover_everything_once() {
        for count in 0..40 {
            for parts in 1..6 {
                let all: Vec<usize> = (0..parts).flat_map(|part| piece(count, part, parts)).collect();
                assert!(all.iter().copied().eq(0..count));
            }
        }
    }
}
