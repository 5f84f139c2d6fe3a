//! defmt's way out: each thread encodes a frame of its own and hands it over whole.
//!
//! The one `unsafe` here is defmt's trait. Its contract, calls in the order acquire, write…, release,
//! guards what others put into shared memory; here each thread has its own buffer behind a `RefCell`, so
//! calls in any order are at worst a damaged frame.
#![allow(unsafe_code)]
#![cfg(target_os = "linux")]

use std::cell::RefCell;

defmt::timestamp!("{=u64:us}", super::uptime_us());

struct Line {
    encoder: defmt::Encoder,
    frame: Vec<u8>,
    /// Frames begun and not ended: more than one when a value logs while it is being logged.
    depth: u32,
}

thread_local! {
    static LINE: RefCell<Line> =
        const { RefCell::new(Line { encoder: defmt::Encoder::new(), frame: Vec::new(), depth: 0 }) };
}

fn with(act: impl FnOnce(&mut Line)) {
    // A thread that ends has no line any more, and an inner frame none of its own: both are dropped.
    let _ = LINE.try_with(|line| {
        if let Ok(mut line) = line.try_borrow_mut() {
            act(&mut line);
        }
    });
}

#[defmt::global_logger]
struct Logger;

// SAFETY: see the module's text; no method shares state between threads.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        with(|line| {
            line.depth += 1;
            if line.depth == 1 {
                line.frame.clear();
                let Line { encoder, frame, .. } = line;
                encoder.start_frame(|bytes| frame.extend_from_slice(bytes));
            }
        });
    }

    unsafe fn flush() {
        super::sync();
    }

    unsafe fn release() {
        with(|line| {
            line.depth = line.depth.saturating_sub(1);
            if line.depth == 0 {
                let Line { encoder, frame, .. } = line;
                encoder.end_frame(|bytes| frame.extend_from_slice(bytes));
                super::put(frame);
            }
        });
    }

    unsafe fn write(bytes: &[u8]) {
        with(|line| {
            if line.depth == 1 {
                let Line { encoder, frame, .. } = line;
                encoder.write(bytes, |bytes| frame.extend_from_slice(bytes));
            }
        });
    }
}

#[defmt::panic_handler]
fn panicked() -> ! {
    super::sync();
    std::process::abort()
}
