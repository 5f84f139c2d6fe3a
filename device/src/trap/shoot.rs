//! Trigger → flash → burst. The flash is switched off in one place, which every way out passes.

use alloc::{
    format,
    string::{String, ToString},
};

use csp_models::record::{Activity, Event, Picture};

use super::{
    Camera, Clock, Kit, MAX_FRAMES, Trap, Trigger,
    burst::{self, Burst, Frame},
    energy::frames_at,
    outbox::Miss,
};

/// A camera that failed is left alone for so long, milliseconds; doubled up to …
const BACK_OFF_MS: u64 = 1_000;
/// … this.
const BACK_OFF_MOST_MS: u64 = 300_000;
/// A cool-down is that much longer while the activity is reduced.
const REDUCED_COOL_DOWN: u64 = 3;

/// Where the camera's half stands.
#[derive(Debug, Default)]
pub(super) struct Shooter {
    phase: Phase,
    /// Bursts since the start: part of their names.
    shots: u32,
    fault: Option<CameraFault>,
    /// What the trigger's sensor said last when it could not be read.
    trigger_problem: Option<String>,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it, in the trap")]
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Ready,
    /// The flash warms up, or the next frame is not due yet.
    Shooting {
        burst: Burst,
        next_ms: u64,
        frames: u8,
    },
    Cooling {
        until_ms: u64,
    },
}

/// The camera fails.
#[derive(Clone, Copy, Debug)]
struct CameraFault {
    attempts: u32,
    until_ms: u64,
}

impl Shooter {
    pub fn is_shooting(&self) -> bool {
        matches!(self.phase, Phase::Shooting { .. })
    }

    /// A burst is under way; cooling down is no business.
    pub fn is_busy(&self) -> bool {
        self.is_shooting()
    }

    pub fn is_camera_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// The camera may be asked.
    pub fn is_camera_rested(&self, now_ms: u64) -> bool {
        self.fault.is_none_or(|fault| now_ms >= fault.until_ms)
    }
}

impl<K: Kit> Trap<K> {
    /// Moves the camera's half on; true when something was done.
    pub(super) fn shoot(&mut self) -> bool {
        let now = self.now_ms();
        match core::mem::take(&mut self.shooter.phase) {
            Phase::Shooting { burst, next_ms, frames } if now >= next_ms => {
                self.take_frame(burst, frames);
                true
            }
            phase @ Phase::Shooting { .. } => {
                self.shooter.phase = phase;
                false
            }
            Phase::Cooling { until_ms } if now < until_ms => {
                // What moves now is what was just photographed: its triggers are used up unseen.
                if !self.trigger.waits() {
                    self.triggered(now);
                }
                self.shooter.phase = Phase::Cooling { until_ms };
                false
            }
            Phase::Ready | Phase::Cooling { .. } => {
                let due = self.watch.is_timelapse_due(self.settings.timelapse_ms, now);
                if self.asks_the_trigger(now) && self.triggered(now) {
                    self.start_burst(now);
                    return true;
                }
                let due = due && self.watch.activity == Activity::Full && self.shooter.is_camera_rested(now);
                if due && !self.queue.is_full() {
                    self.start_burst(now);
                }
                due
            }
        }
    }

    /// Triggers that wait are asked for one by one, others always.
    fn asks_the_trigger(&self, now: u64) -> bool {
        let busy = !self.queue.is_empty() || self.work.is_some() || !self.outbox.is_empty();
        !self.trigger.waits()
            || !busy && self.watch.activity < Activity::Minimal && self.shooter.is_camera_rested(now)
    }

    fn triggered(&mut self, now: u64) -> bool {
        match self.trigger.poll(now) {
            Ok(triggered) => {
                self.shooter.trigger_problem = None;
                triggered
            }
            Err(error) => {
                let problem = error.to_string();
                if self.shooter.trigger_problem.as_ref() != Some(&problem) {
                    self.tell(Event::Note { text: format!("trigger: {problem}") });
                    self.shooter.trigger_problem = Some(problem);
                }
                false
            }
        }
    }

    fn start_burst(&mut self, now: u64) {
        let frames = frames_at(self.watch.activity, self.settings.frames.clamp(1, MAX_FRAMES as u8));
        let miss = if frames == 0 {
            Some(Miss::Resting)
        } else if !self.shooter.is_camera_rested(now) {
            Some(Miss::Camera)
        } else if self.queue.is_full() {
            Some(Miss::Busy)
        } else {
            None
        };
        if let Some(miss) = miss {
            self.outbox.miss(miss);
            return self.cool_down(now);
        }
        self.shooter.shots = self.shooter.shots.wrapping_add(1);
        let time = self.time();
        let mut next_ms = now;
        if let Some(warm_up_ms) = self.settings.flash_warm_up_ms {
            match self.flash.on(self.clock.monotonic_us()) {
                Ok(()) => next_ms = now.saturating_add(warm_up_ms),
                Err(error) => self.flash_problem(&format!(
                    "cannot be switched on ({error:?}); the picture is taken without"
                )),
            }
        }
        self.shooter.phase = Phase::Shooting {
            burst: Burst {
                stem: burst::stem(time, self.clock.boot(), self.shooter.shots),
                time,
                place: self.gps.place(now),
                frames: heapless::Vec::new(),
                spent: Default::default(),
            },
            next_ms,
            frames,
        };
    }

    /// Takes the next picture of a burst; the last one, or a failed one, ends it.
    fn take_frame(&mut self, mut burst: Burst, frames: u8) {
        let number = burst.frames.len() as u8;
        let start = self.clock.monotonic_us();
        let result = self.camera.capture(number).map_err(|error| error.to_string());
        let named = self.camera.name();
        let failed = result.is_err();
        if failed && named.is_none() {
            // Before anything else: whatever else goes wrong, it does so in the dark.
            burst.spent.flash_us += self.flash.off(self.clock.monotonic_us());
        }
        match result {
            Ok(file) => {
                if named.is_none() {
                    self.camera_works();
                }
                let foreign = named.is_some();
                let name = named.unwrap_or_else(|| burst.name(number, &file.bytes));
                let waiting: usize = self.queue.iter().map(Burst::bytes).sum::<usize>() + burst.bytes();
                let fits = waiting.saturating_add(file.bytes.len()) <= self.settings.waiting_bytes;
                let problem = (!fits)
                    .then(|| format!("pictures of {} MiB were waiting for the model already", waiting >> 20));
                let mut frame = Frame {
                    name,
                    sha256: Some(file.sha256),
                    kept: None,
                    bytes: Some(file.bytes),
                    problem,
                    foreign,
                };
                // Pictures that may show people wait in memory until the model has looked.
                if !fits || !self.looks_first() {
                    self.keep(&mut frame, burst.taken(), None);
                }
                if !fits {
                    frame.bytes = None;
                }
                // a burst is never longer than its vector: `frames` is clamped
                let _ = burst.frames.push(frame);
            }
            Err(problem) => {
                if named.is_none() {
                    self.camera_failed(&problem);
                }
                if named.is_some() || burst.frames.is_empty() {
                    let foreign = named.is_some();
                    let name = named.unwrap_or_else(|| burst.name(number, &[]));
                    let kept = Some(Picture::NotStored { problem: problem.clone() });
                    let problem = Some(problem);
                    let _ =
                        burst.frames.push(Frame { name, sha256: None, kept, bytes: None, problem, foreign });
                }
            }
        }
        let now_us = self.clock.monotonic_us();
        burst.spent.capture_us += now_us.saturating_sub(start);
        if !failed && burst.frames.len() < usize::from(frames) {
            let next_ms = (start / 1000).saturating_add(self.settings.interval_ms);
            self.shooter.phase = Phase::Shooting { burst, next_ms, frames };
            return;
        }
        burst.spent.flash_us += self.flash.off(now_us);
        self.camera.rest();
        // Room was made sure of before the burst, and nobody else fills the queue.
        if self.queue.push_back(burst).is_err() {
            self.outbox.miss(Miss::Busy);
        }
        self.cool_down(now_us / 1000);
    }

    fn cool_down(&mut self, now: u64) {
        let times = if self.watch.activity > Activity::Full { REDUCED_COOL_DOWN } else { 1 };
        let until_ms = now.saturating_add(self.settings.cool_down_ms.saturating_mul(times));
        self.shooter.phase = Phase::Cooling { until_ms };
    }

    fn camera_failed(&mut self, problem: &str) {
        let attempts = self.shooter.fault.map_or(0, |fault| fault.attempts).saturating_add(1);
        let pause = BACK_OFF_MS.saturating_mul(1 << (attempts - 1).min(16)).min(BACK_OFF_MOST_MS);
        let until_ms = self.now_ms().saturating_add(pause);
        self.shooter.fault = Some(CameraFault { attempts, until_ms });
        // Said ever less often: a camera may be gone for weeks.
        if attempts.is_power_of_two() {
            self.tell(Event::CameraFault { problem: problem.into(), attempts });
        }
    }

    fn camera_works(&mut self) {
        if self.shooter.fault.take().is_some() {
            self.tell(Event::CameraBack);
        }
    }

    /// Says once what is wrong with the flash.
    pub(super) fn flash_problem(&mut self, problem: &str) {
        if !core::mem::replace(&mut self.watch.flash_faulty, true) {
            self.tell(Event::Note { text: format!("the flash {problem}") });
        }
    }
}
