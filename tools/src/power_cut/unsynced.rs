//! Cuts of a simulated disk, which may drop, tear and reorder whatever was not synced.

use std::path::Path;

use csp_device::store::{
    Limits, Store,
    simulated::{Chance, Simulated},
};

use super::{
    Toll,
    ledger::{Ledger, act, identity},
};

const DIR: &str = "/data/store";
/// Cuts of one disk before a new one is taken: recoveries of recoveries are tried as well.
const LIVES: u32 = 8;

/// Disks of a small size, so that segments close, quotas bite and disks fill within a few hundred operations.
#[derive(Clone, Copy, Debug)]
struct Bench {
    limits: Limits,
    capacity: Option<u64>,
    picture_bytes: u64,
}

impl Bench {
    fn draw(chance: &mut Chance) -> Self {
        let limits =
            Limits { picture_bytes: None, min_free_bytes: 0, reserve_bytes: 8 << 10, segment_bytes: 6 << 10 };
        let roomy = Self { limits, capacity: None, picture_bytes: 3000 };
        match chance.below(4) {
            0 => Self { limits: Limits { picture_bytes: Some(20_000), ..limits }, ..roomy },
            1 => Self { capacity: Some(100_000), ..roomy },
            _ => roomy,
        }
    }

    /// Whether a picture may have been given up, when it and what came after it is of that size.
    fn may_take(&self, since: u64) -> bool {
        let quota = self.limits.picture_bytes.is_some_and(|quota| since > quota - quota / 20);
        // On a full disk records push pictures out as well: any may be gone.
        quota || self.capacity.is_some()
    }
}

pub(super) fn run(cuts: u32, seed: u64, forget_syncs: bool) -> Toll {
    let mut toll = Toll::default();
    let mut disk = 0;
    while toll.cuts < cuts {
        let chance = Chance::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(disk));
        toll += one_disk((cuts - toll.cuts).min(LIVES), chance, forget_syncs);
        disk += 1;
    }
    toll
}

fn one_disk(cuts: u32, mut chance: Chance, forget_syncs: bool) -> Toll {
    let bench = Bench::draw(&mut chance);
    let disk = Simulated::new(bench.capacity);
    if forget_syncs {
        disk.forget_syncs();
    }
    let dir = Path::new(DIR);
    let open = || Store::open_with(disk.clone(), dir, identity(), bench.limits);
    let (mut toll, mut ledger) = (Toll::default(), Ledger::default());
    for _ in 0..cuts {
        toll.cuts += 1;
        // a third of the cuts comes early, to hit the recovery
        let operations = if chance.below(3) == 0 { chance.below(12) } else { chance.below(300) };
        disk.cut_after(operations);
        if let Ok((mut store, _)) = open() {
            while !disk.is_cut() {
                // A full disk refuses pictures and, in the end, records; the power is cut all the same.
                if act(&mut store, &mut ledger, &mut chance, bench.picture_bytes).is_err()
                    && chance.below(20) == 0
                {
                    break;
                }
            }
        }
        // a killed process, or a real cut
        if chance.below(5) == 0 {
            disk.revive()
        } else {
            disk.restart(&mut chance)
        }
        match open() {
            Err(_) => {
                toll.unreadable += 1;
                break;
            }
            Ok((store, _)) => drop(store),
        }
        let lost = ledger.count_losses(&disk, dir, |since| bench.may_take(since));
        toll.lost += lost;
        if lost > 0 {
            break;
        }
    }
    toll.acknowledged = ledger.records.len() as u64;
    toll.pictures = ledger.acknowledged_pictures();
    if !forget_syncs {
        ledger.losses.iter().for_each(|loss| eprintln!("{bench:?}: {loss}"));
    }
    toll
}
