//! What the firmware says of itself: defmt frames in a bounded ring of files.
//!
//! `DIR/diagnostics/NNNNNN.defmt` begins with one line of text (format, build id, version, UTC and uptime
//! when it was begun), then come rzCOBS frames. The texts are not in them but in the program:
//! `csp-host logs decode DIR/diagnostics --elf csp-device` puts the two together. The ring takes 2 MiB; a
//! power cut may take the last minute.
//!
//! [`begin`] is called once by the program; what it says before a [store](crate::store) is open waits in
//! memory, and goes to the store's folder then. In programs that never call it every statement is free of effect.

mod build_id;
mod logger;
mod ring;

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

pub use build_id::{build_id, own_build_id};
pub use ring::{FORMAT, Header};

use ring::Ring;

/// Bytes that wait for a store to be opened.
const MAX_WAITING: usize = 64 << 10;

static START: OnceLock<Instant> = OnceLock::new();
static SINK: Mutex<Sink> = Mutex::new(Sink::Off);

/// Where frames go.
#[derive(Debug)]
enum Sink {
    Off,
    Waiting(Vec<u8>),
    Ring(Ring),
}

fn sink() -> MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microseconds since [`begin`].
fn uptime_us() -> u64 {
    START.get().map_or(0, |start| u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Begins to log, and logs panics from here on.
pub fn begin() {
    START.get_or_init(Instant::now);
    {
        let mut sink = sink();
        if !matches!(*sink, Sink::Off) {
            return;
        }
        *sink = Sink::Waiting(Vec::new());
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        #[cfg(target_os = "linux")]
        defmt::error!("panic: {=str}", text.as_str());
        let _ = text;
        sync();
        before(panic);
    }));
    #[cfg(target_os = "linux")]
    defmt::info!("csp-device {=str} starts", env!("CARGO_PKG_VERSION"));
}

/// Puts the log into `DIR/diagnostics` of a store that this process holds, if the log was begun.
///
/// # Errors
/// The folder or its first file cannot be made; the log goes on in memory.
pub fn attach(store: &Path) -> io::Result<()> {
    let mut sink = sink();
    if matches!(*sink, Sink::Off) {
        return Ok(());
    }
    let mut ring = Ring::open(&store.join("diagnostics"), uptime_us())?;
    if let Sink::Waiting(frames) = &*sink {
        ring.write(frames)?;
    }
    *sink = Sink::Ring(ring);
    Ok(())
}

/// Waits until everything logged is on the medium.
pub fn sync() {
    if let Sink::Ring(ring) = &mut *sink() {
        ring.sync();
    }
}

/// Takes whole frames from a thread.
fn put(frames: &[u8]) {
    match &mut *sink() {
        Sink::Off => {}
        // The first words tell more than the last: what does not fit is dropped.
        Sink::Waiting(waiting) if waiting.len() + frames.len() > MAX_WAITING => {}
        Sink::Waiting(waiting) => waiting.extend_from_slice(frames),
        // A log that cannot be written is no reason to stop, and nobody to tell.
        Sink::Ring(ring) => drop(ring.write(frames)),
    }
}
