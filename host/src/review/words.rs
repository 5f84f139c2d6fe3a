//! Events and the board's state in words, for a reviewer.

use csp_models::{
    bundle::hex,
    record::{Activity, ActivityReason, BoardState, Event, LastRun, Picture},
    time::{TimeSource, Timestamp},
};

/// What happened, as a sentence without its full stop.
pub fn event(event: &Event) -> String {
    match event {
        Event::Started { after, config_sha256 } => {
            let after = match after {
                LastRun::None => "for the first time",
                LastRun::Clean => "after a clean stop",
                LastRun::Panic => "after a failure of the firmware",
                LastRun::Interrupted => "after an interruption (power, watchdog or kill)",
            };
            let config = config_sha256.as_ref().map(|digest| format!(", configuration {}", short(digest)));
            format!("started {after}{}", config.unwrap_or_default())
        }
        Event::Stopped => "stopped when asked to".into(),
        Event::Panicked { message } => format!("the firmware failed and restarts: {message}"),
        Event::SafeMode { reason } => {
            format!("safe mode, pictures are recorded and not classified: {reason}")
        }
        Event::FirstFix { place } => format!("first fix: {} ±{:.0} m", place.at, place.uncertainty_m),
        Event::FixLost => "the fix is lost".into(),
        Event::Moved { from, to, distance_m } => {
            format!("the trap was moved {} from {from} to {to}", distance(*distance_m))
        }
        Event::ReceiverSilent { seconds } => format!("the receiver has been silent for {}", span(*seconds)),
        Event::ReceiverFault { problem } => format!("the receiver fails: {problem}"),
        Event::ReceiverBack => "the receiver is heard again".into(),
        Event::ClockSet { boot, monotonic_ms, utc_ms, rollover } => {
            let utc = Timestamp { millis: *utc_ms, source: TimeSource::Gps };
            let rollover = if *rollover { "; the receiver's date had rolled over" } else { "" };
            format!("clock set: start {boot} + {} is {utc}{rollover}", span(monotonic_ms / 1000))
        }
        Event::CameraFault { problem, attempts } => {
            format!("the camera fails ({attempts} in a row): {problem}")
        }
        Event::CameraBack => "the camera works again".into(),
        Event::ModelFault { problem } => format!("no model, pictures stay unclassified: {problem}"),
        Event::StorageLow { free_bytes } => format!("{} left on the disk", size(*free_bytes)),
        Event::PicturesRemoved { count, bytes, up_to } => {
            let size = if *bytes > 0 { format!(" ({})", size(*bytes)) } else { String::new() };
            format!("{count} pictures{size} up to {up_to} removed to make room; their records stay")
        }
        Event::TriggersMissed { count, reason } => format!("{count} triggers not recorded: {reason}"),
        Event::Activity { level, reason } => {
            let level = match level {
                Activity::Full => "full activity",
                Activity::Reduced => "reduced: shorter bursts, longer pauses, no time-lapse",
                Activity::PicturesOnly => "pictures only, unclassified",
                Activity::Minimal => "triggers are counted, no pictures",
            };
            let reason = match reason {
                ActivityReason::EnergyBudget => "today's energy is being spent too fast",
                ActivityReason::Battery => "the battery is low",
                ActivityReason::Temperature => "the board is hot",
                ActivityReason::Recovered => "the reason before is gone",
            };
            format!("{level} ({reason})")
        }
        Event::Note { text } => text.clone(),
    }
}

/// The board's state; `None` when nothing of it is known.
pub fn board(board: &BoardState) -> Option<String> {
    if *board == BoardState::default() {
        return None;
    }
    let mut parts = vec![format!("start {}, up {}", board.boot, span(board.monotonic_ms / 1000))];
    if let Some(mv) = board.battery_mv {
        parts.push(format!("battery {:.2} V", f64::from(mv) / 1000.0));
    }
    parts.extend(board.battery_percent.map(|percent| format!("charge {percent} %")));
    parts.extend(board.temperature_c.map(|celsius| format!("{celsius:.1} °C")));
    parts.extend(board.energy_mj.map(|mj| format!("{:.2} J", f64::from(mj) / 1000.0)));
    Some(parts.join(" · "))
}

/// What became of a picture, unless it is simply there.
pub fn picture(picture: &Picture) -> Option<String> {
    match picture {
        Picture::Kept | Picture::Elsewhere => None,
        Picture::Suppressed { group } => Some(format!("not kept: {group}")),
        Picture::Sealed => Some("encrypted to the owner's key".into()),
        Picture::NotStored { problem } => Some(format!("not stored: {problem}")),
    }
}

fn short(digest: &[u8; 32]) -> String {
    hex(digest).chars().take(12).collect()
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn distance(metres: f64) -> String {
    if metres < 1000.0 { format!("{metres:.0} m") } else { format!("{:.1} km", metres / 1000.0) }
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e6 => format!("{:.0} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sentences() {
        let removed = Event::PicturesRemoved { count: 3, bytes: 2_500_000, up_to: "a.jpg".into() };
        assert_eq!(
            event(&removed),
            "3 pictures (2.5 MB) up to a.jpg removed to make room; their records stay"
        );
        let silent = Event::ReceiverSilent { seconds: 3 * 86_400 };
        assert_eq!(event(&silent), "the receiver has been silent for 3 days");
        let low = Event::StorageLow { free_bytes: 900 };
        assert_eq!(event(&low), "1 kB left on the disk");
    }

    #[test]
    fn only_what_is_measured_is_shown() {
        assert_eq!(board(&BoardState::default()), None);
        let state = BoardState {
            boot: 3,
            monotonic_ms: 7_200_000,
            battery_mv: Some(3912),
            temperature_c: Some(-4.5),
            ..BoardState::default()
        };
        assert_eq!(board(&state).unwrap(), "start 3, up 2 h · battery 3.91 V · -4.5 °C");
    }
}
