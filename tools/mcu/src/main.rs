//! The no_std core on a Cortex-M4: runs the scenario on the recording that was built in, and writes what
//! came of it to the host. Lines that begin with `#` are about this processor; the others have to be
//! the host's own.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../../src/mcu/scenario.rs"]
#[cfg_attr(not(feature = "trap"), allow(dead_code, unused_imports))]
mod scenario;

use core::{
    alloc::{GlobalAlloc, Layout},
    fmt::Write,
    panic::PanicInfo,
    sync::atomic::{AtomicUsize, Ordering},
};

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use embedded_alloc::LlffHeap;

static RECORDING: &[u8] = include_bytes!(env!("CSP_MCU_RECORDING"));
const HEAP_BYTES: usize = 1 << 20;

/// The heap, and the most that was taken from it.
struct Counted {
    heap: LlffHeap,
    peak: AtomicUsize,
}

#[global_allocator]
static HEAP: Counted = Counted { heap: LlffHeap::empty(), peak: AtomicUsize::new(0) };

// SAFETY: passes on to the heap, and counts.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the heap's.
        let block = unsafe { self.heap.alloc(layout) };
        self.peak.fetch_max(self.heap.used(), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the heap's.
        unsafe { self.heap.dealloc(block, layout) }
    }
}

#[entry]
fn main() -> ! {
    {
        let heap = &HEAP.heap;
        // SAFETY: first thing, and once.
        unsafe {
            embedded_alloc::init!(heap, HEAP_BYTES);
        }
    }
    let Ok(mut out) = hio::hstdout() else { fail() };
    scenario::gps(RECORDING, &mut |line| _ = writeln!(out, "{line}"));
    let gps_heap = HEAP.peak.load(Ordering::Relaxed);
    #[cfg(feature = "trap")]
    scenario::trap(RECORDING, &mut |line| _ = writeln!(out, "{line}"));
    let heap = HEAP.peak.load(Ordering::Relaxed);
    let _ = writeln!(out, "# heap_static {HEAP_BYTES} recording {}", RECORDING.len());
    let _ =
        writeln!(out, "# gps_bytes {} gps_heap {gps_heap} heap {heap}", size_of::<csp_device::gps::Gps>());
    debug::exit(debug::EXIT_SUCCESS);
    fail()
}

fn fail() -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut out) = hio::hstdout() {
        let _ = writeln!(out, "{info}");
    }
    fail()
}
