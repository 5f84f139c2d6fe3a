//! Entries on their way to the store: a bounded ring, so that a store that takes nothing costs no
//! more memory, and counts of what could not even wait.

use alloc::{format, string::String};

use csp_models::record::{Entry, Event};
use heapless::Deque;

/// Entries that wait for the store, at most.
pub const OUTBOX: usize = 64;
/// A store that refused is asked again after so long, milliseconds; doubled up to …
const RETRY_MS: u64 = 1_000;
/// … this.
const RETRY_MOST_MS: u64 = 60_000;
/// Misses that go on are said that often, milliseconds.
const SAY_EVERY_MS: u64 = 3_600_000;

/// Why a trigger left no picture or no entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// As many bursts as fit were waiting for the model.
    Busy,
    /// The store took nothing, and no more entries can wait.
    Store,
    /// The camera failed before and is left alone for a while.
    Camera,
    /// The activity is minimal.
    Resting,
}

impl Miss {
    const ALL: [Self; 4] = [Self::Busy, Self::Store, Self::Camera, Self::Resting];

    fn reason(self) -> &'static str {
        match self {
            Self::Busy => "the pictures before were still being classified",
            Self::Store => "the store took no entries and no more could wait",
            Self::Camera => "the camera had failed and was given a pause",
            Self::Resting => "saving energy: triggers are only counted",
        }
    }
}

/// Entries that wait, and counts of misses.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Deque<Entry, OUTBOX>,
    retry: Option<Retry>,
    missed: [u32; Miss::ALL.len()],
    events_lost: u32,
    said_ms: [u64; Miss::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at_ms: u64,
    pause_ms: u64,
}

impl Outbox {
    /// Puts an entry in line. When the line is full it is counted instead.
    pub fn push(&mut self, entry: Entry) {
        if let Err(entry) = self.waiting.push_back(entry) {
            match entry {
                Entry::Event(_) => self.events_lost = self.events_lost.saturating_add(1),
                Entry::Prediction(_) | Entry::Failure(_) => self.miss(Miss::Store),
            }
        }
    }

    /// Counts a trigger.
    pub fn miss(&mut self, why: Miss) {
        if let Some(count) = self.missed.get_mut(why as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Triggers counted and not yet told in an event.
    pub fn missed(&self) -> u32 {
        self.missed.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True while the store refuses.
    pub fn is_refused(&self) -> bool {
        self.retry.is_some()
    }

    /// The next entry for the store, when it is time to ask.
    pub fn next(&self, now_ms: u64) -> Option<&Entry> {
        match self.retry {
            Some(retry) if now_ms < retry.at_ms => None,
            _ => self.waiting.front(),
        }
    }

    /// The store took it.
    pub fn taken(&mut self) -> Option<Entry> {
        self.retry = None;
        self.waiting.pop_front()
    }

    /// The store did not take it.
    pub fn refused(&mut self, now_ms: u64) {
        let pause_ms = self.retry.map_or(RETRY_MS, |retry| (2 * retry.pause_ms).min(RETRY_MOST_MS));
        self.retry = Some(Retry { at_ms: now_ms.saturating_add(pause_ms), pause_ms });
    }

    /// The next count worth an event, if it can be put in line: once its cause is over (`over`), and
    /// hourly while it lasts.
    pub fn report(&mut self, now_ms: u64, over: impl Fn(Miss) -> bool) -> Option<Event> {
        if self.waiting.len() >= OUTBOX / 2 {
            return None;
        }
        for why in Miss::ALL {
            let at = why as usize;
            let (Some(count), Some(said)) = (self.missed.get_mut(at), self.said_ms.get_mut(at)) else {
                continue;
            };
            let lost = if why == Miss::Store { self.events_lost } else { 0 };
            if *count == 0 && lost == 0 {
                *said = now_ms;
                continue;
            }
            if !over(why) && now_ms.saturating_sub(*said) < SAY_EVERY_MS {
                continue;
            }
            *said = now_ms;
            let reason = match lost {
                0 => String::from(why.reason()),
                lost => format!("{}; {lost} events were lost as well", why.reason()),
            };
            let event = Event::TriggersMissed { count: core::mem::take(count), reason };
            if why == Miss::Store {
                self.events_lost = 0;
            }
            return Some(event);
        }
        None
    }
}
