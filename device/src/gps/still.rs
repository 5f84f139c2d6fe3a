//! A box strapped to a tree: many fixes → one position that is better than any of them.
//!
//! Fixes are gathered in blocks of five minutes. The estimate is the median of the blocks' medians,
//! east and north apart, in a plane that touches the Earth at the first of them: no pole and no
//! antimeridian, bounded memory, and no single wrong fix has a say. A receiver at rest errs the same
//! way for many minutes, so the uncertainty falls with hours heard, not with fixes counted, and never
//! below [`FLOOR_M`]. Fixes elsewhere that agree with each other mean that the trap was moved.

use csp_models::place::{EARTH_RADIUS_M, LatLon};
use heapless::{Deque, Vec};

use super::epoch::{Fix, Grade};

/// The least uncertainty claimed, metres: what averaging cannot remove under trees (multipath, the
/// site's own bias).
pub const FLOOR_M: f64 = 5.0;
/// A fix farther from the estimate than this, or than five of its own sigmas, is not of this tree.
pub const GATE_M: f64 = 100.0;
/// Good fixes that agree before there is an estimate: the first ones after a cold start wander.
const ARM: u32 = 5;
/// How far the fixes that arm it may lie apart, metres.
const ARM_M: f64 = 50.0;
/// A box that goes faster is carried, metres a second. Receivers at rest report up to 0.5.
const STILL_MPS: f32 = 1.0;
const BLOCK_MS: u64 = 300_000;
/// Fixes of one second after another tell nothing new.
const SPACING_MS: u64 = 5_000;
const BLOCK_FIXES: usize = 60;
/// Fixes a block needs to be kept when it ends.
const MIN_BLOCK: usize = 3;
const BLOCKS: usize = 32;
/// The newest blocks, which outvote the older ones when they lie farther off than a receiver at rest
/// wanders, metres.
const NEW_BLOCKS: usize = 4;
const SHIFT_M: f64 = 25.0;
/// Blocks that err alike: 20 minutes.
const BLOCKS_ALIKE: f64 = 4.0;
/// Radius that holds 95 % of a round Gaussian, from the one that holds half.
const R95_OF_R50: f64 = 2.08;
/// Agreeing fixes elsewhere, and the time they have to span, that mean "moved".
const MOVED_FIXES: u32 = 10;
const MOVED_MS: u64 = 60_000;
/// Fixes elsewhere in a row from which on the estimate is in doubt; fewer are the receiver's slips.
const DOUBT_FIXES: u32 = 3;
const CLUSTER: usize = 16;

/// The trap was carried to another place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Where it was.
    pub from: LatLon,
    /// Where it is.
    pub to: LatLon,
    /// How far that is, metres.
    pub distance_m: f64,
}

/// A position with the radius that holds the true one (about 95 %).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Where.
    pub at: LatLon,
    /// Radius, metres.
    pub uncertainty_m: f64,
}

/// The estimator.
#[derive(Debug, Default)]
pub struct Still {
    state: State,
    /// Time of day of the last fix: the same again is the same fix.
    last_time_ms: Option<u32>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them, and no heap to put it on")]
enum State {
    Arming(Cluster),
    Settled(Settled),
}

impl Default for State {
    fn default() -> Self {
        Self::Arming(Cluster::default())
    }
}

#[derive(Debug)]
struct Settled {
    plane: Plane,
    blocks: Deque<Spot, BLOCKS>,
    open: Block,
    /// What is handed out; it follows the blocks in steps, so that a prior is not computed anew each second.
    published: Estimate,
    /// False for an estimate of an earlier boot that no fix has confirmed.
    confirmed: bool,
    elsewhere: Cluster,
    streak: Streak,
}

/// Fixes elsewhere in a row, agreeing or not.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    count: u32,
    since_ms: u64,
    until_ms: u64,
    /// From the estimate to the farthest that a fix of the streak's end may be, metres.
    reach_m: f64,
}

impl Still {
    /// An estimator that starts from where the trap was before it was switched off.
    pub fn recalled(at: LatLon, uncertainty_m: f64) -> Self {
        let plane = Plane::at(at);
        let open = Block { spots: Vec::new(), since_ms: 0, last_ms: None };
        let mut settled = Settled::new(plane, open, Estimate { at, uncertainty_m });
        let _ = settled.blocks.push_back(Spot { east: 0.0, north: 0.0, uncertainty: uncertainty_m as f32 });
        settled.confirmed = false;
        Self { state: State::Settled(settled), last_time_ms: None }
    }

    /// Takes a fix of `time_ms` since midnight that came at `now_ms`.
    pub fn push(&mut self, fix: &Fix, time_ms: u32, now_ms: u64) -> Option<Moved> {
        if self.last_time_ms.replace(time_ms) == Some(time_ms) {
            return None;
        }
        let carried = fix.speed_mps.is_some_and(|speed| speed > STILL_MPS);
        match &mut self.state {
            State::Arming(_) if fix.grade < Grade::Good => {}
            State::Arming(cluster) if carried => *cluster = Cluster::default(),
            State::Arming(cluster) => {
                cluster.push(fix, now_ms, ARM_M);
                if cluster.count >= ARM
                    && let Some(settled) = Settled::of(cluster, now_ms)
                {
                    self.state = State::Settled(settled);
                }
            }
            State::Settled(settled) => {
                let moved = settled.push(fix, carried, now_ms)?;
                let after = Settled::of(&settled.elsewhere, now_ms)?;
                self.state = State::Settled(after);
                return Some(moved);
            }
        }
        None
    }

    /// The estimate to use instead of the latest fix; `None` while there is none, or while the trap travels.
    ///
    /// While fixes elsewhere are weighed, its uncertainty reaches as far as they do.
    pub fn estimate(&self) -> Option<Estimate> {
        let State::Settled(settled) = &self.state else { return None };
        let Streak { count, since_ms, until_ms, reach_m } = settled.streak;
        let travels = count >= MOVED_FIXES && until_ms.saturating_sub(since_ms) >= MOVED_MS;
        if travels || (!settled.confirmed && count > 0) {
            return None;
        }
        let reach_m = if count >= DOUBT_FIXES { reach_m } else { 0.0 };
        let Estimate { at, uncertainty_m } = settled.published;
        Some(Estimate { at, uncertainty_m: uncertainty_m.max(reach_m) })
    }

    /// True while fixes disagree with the estimate: the receiver should stay on until that is settled.
    pub fn in_doubt(&self) -> bool {
        matches!(&self.state, State::Settled(settled) if settled.streak.count > 0)
    }
}

impl Settled {
    fn new(plane: Plane, open: Block, published: Estimate) -> Self {
        let (elsewhere, streak) = (Cluster::default(), Streak::default());
        Self { plane, blocks: Deque::new(), open, published, confirmed: true, elsewhere, streak }
    }

    /// From fixes that agree.
    fn of(cluster: &Cluster, now_ms: u64) -> Option<Self> {
        let at = cluster.centre()?;
        let plane = Plane::at(at);
        let mut open = Block { spots: Vec::new(), since_ms: now_ms, last_ms: Some(now_ms) };
        for (at, uncertainty) in &cluster.fixes {
            let _ = open.spots.push(plane.spot(*at, *uncertainty));
        }
        let mut settled = Self::new(plane, open, Estimate { at, uncertainty_m: f64::INFINITY });
        settled.publish();
        Some(settled)
    }

    fn push(&mut self, fix: &Fix, carried: bool, now_ms: u64) -> Option<Moved> {
        let away = self.published.at.distance_m(fix.at);
        // 2.45 sigmas hold 95 %
        let gate = GATE_M.max(fix.uncertainty_m * 5.0 / 2.45);
        if away <= gate {
            if fix.grade >= Grade::Good {
                self.streak = Streak::default();
                self.elsewhere = Cluster::default();
                self.confirmed = true;
                if !carried {
                    self.gather(self.plane.spot(fix.at, fix.uncertainty_m), now_ms);
                }
            }
            return None;
        }
        let streak = &mut self.streak;
        if streak.count == 0 {
            streak.since_ms = now_ms;
        }
        streak.count = streak.count.saturating_add(1);
        streak.until_ms = now_ms;
        streak.reach_m = away + fix.uncertainty_m;
        if carried {
            self.elsewhere = Cluster::default();
            return None;
        }
        self.elsewhere.push(fix, now_ms, GATE_M);
        if !self.elsewhere.spans(MOVED_FIXES, MOVED_MS) {
            return None;
        }
        let (from, to) = (self.published.at, self.elsewhere.centre()?);
        Some(Moved { from, to, distance_m: from.distance_m(to) })
    }

    fn gather(&mut self, spot: Spot, now_ms: u64) {
        let open = &mut self.open;
        let silent = open.last_ms.is_some_and(|last| now_ms.saturating_sub(last) > BLOCK_MS);
        if silent || now_ms.saturating_sub(open.since_ms) >= BLOCK_MS || open.spots.is_full() {
            if open.spots.len() >= MIN_BLOCK {
                if self.blocks.is_full() {
                    self.blocks.pop_front();
                }
                let _ = self.blocks.push_back(median(&open.spots));
                self.forget();
            }
            let open = &mut self.open;
            open.spots.clear();
            open.since_ms = now_ms;
            open.last_ms = None;
        }
        let open = &mut self.open;
        if open.last_ms.is_none_or(|last| now_ms.saturating_sub(last) >= SPACING_MS) {
            let _ = open.spots.push(spot);
            open.last_ms = Some(now_ms);
            self.publish();
        }
    }

    /// Drops the old blocks when the new ones lie elsewhere: a move too short for the gate.
    fn forget(&mut self) {
        let all: Vec<Spot, BLOCKS> = self.blocks.iter().copied().collect();
        let Some((old, new)) = all.len().checked_sub(NEW_BLOCKS).map(|at| all.split_at(at)) else { return };
        if median(new).distance(median(&all)) > SHIFT_M {
            old.iter().for_each(|_| {
                self.blocks.pop_front();
            });
        }
    }

    /// Hands out a new estimate when it differs from the old one by something that matters.
    fn publish(&mut self) {
        let mut spots: Vec<Spot, { BLOCKS + 1 }> = self.blocks.iter().copied().collect();
        if self.open.spots.len() >= MIN_BLOCK || spots.is_empty() {
            let _ = spots.push(median(&self.open.spots));
        }
        let Some(latest) = spots.last().copied() else { return };
        let centre = median(&spots);
        let alike = (spots.len() as f64).max(BLOCKS_ALIKE) / BLOCKS_ALIKE;
        // Few blocks say little of their scatter; then that of the fixes counts.
        let few = (spots.len() as f64) < BLOCKS_ALIKE;
        let scattered = if few { self.open.spots.as_slice() } else { spots.as_slice() };
        let scatter = middle(scattered.iter().map(|spot| spot.distance(centre)));
        let averaged = f64::from(centre.uncertainty).max(R95_OF_R50 * scatter) / libm::sqrt(alike);
        let uncertainty_m = averaged.max(latest.distance(centre)).max(FLOOR_M);
        let at = self.plane.place(centre);
        let was = self.published;
        let much = was.at.distance_m(at) > uncertainty_m / 2.0;
        if much || uncertainty_m < 0.8 * was.uncertainty_m || uncertainty_m > 1.25 * was.uncertainty_m {
            self.published = Estimate { at, uncertainty_m };
        }
    }
}

#[derive(Debug)]
struct Block {
    spots: Vec<Spot, BLOCK_FIXES>,
    since_ms: u64,
    last_ms: Option<u64>,
}

/// The latest fixes that lie together.
#[derive(Debug, Default)]
struct Cluster {
    fixes: Vec<(LatLon, f64), CLUSTER>,
    count: u32,
    since_ms: u64,
    last_ms: u64,
}

impl Cluster {
    fn push(&mut self, fix: &Fix, now_ms: u64, radius_m: f64) {
        if self.centre().is_some_and(|centre| centre.distance_m(fix.at) > radius_m) {
            *self = Self::default();
        }
        if self.count == 0 {
            self.since_ms = now_ms;
        }
        if self.fixes.is_full() {
            self.fixes.remove(0);
        }
        let _ = self.fixes.push((fix.at, fix.uncertainty_m));
        self.count = self.count.saturating_add(1);
        self.last_ms = now_ms;
    }

    fn spans(&self, count: u32, time_ms: u64) -> bool {
        self.count >= count && self.last_ms.saturating_sub(self.since_ms) >= time_ms
    }

    /// The median of the fixes.
    fn centre(&self) -> Option<LatLon> {
        let &(first, _) = self.fixes.first()?;
        let plane = Plane::at(first);
        let spots: Vec<Spot, CLUSTER> =
            self.fixes.iter().map(|&(at, uncertainty)| plane.spot(at, uncertainty)).collect();
        Some(plane.place(median(&spots)))
    }
}

/// A position in a [`Plane`], metres.
#[derive(Clone, Copy, Debug)]
struct Spot {
    east: f32,
    north: f32,
    uncertainty: f32,
}

impl Spot {
    fn distance(self, other: Self) -> f64 {
        let (east, north) = (f64::from(self.east - other.east), f64::from(self.north - other.north));
        libm::sqrt(east * east + north * north)
    }
}

/// East, north and uncertainty apart.
fn median(spots: &[Spot]) -> Spot {
    let of = |pick: fn(&Spot) -> f32| middle(spots.iter().map(|spot| f64::from(pick(spot)))) as f32;
    Spot {
        east: of(|spot| spot.east),
        north: of(|spot| spot.north),
        uncertainty: of(|spot| spot.uncertainty),
    }
}

/// The median; 0 of nothing.
fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64, BLOCK_FIXES> = values.take(BLOCK_FIXES).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

/// The plane that touches the sphere at a place, with its directions east and north. At a pole "north"
/// is that of the place's meridian, and as good as any.
#[derive(Clone, Copy, Debug)]
struct Plane {
    anchor: LatLon,
    origin: [f64; 3],
    east: [f64; 3],
    north: [f64; 3],
}

impl Plane {
    fn at(at: LatLon) -> Self {
        let (phi, lambda) = (at.lat().to_radians(), at.lon().to_radians());
        let (sin_phi, cos_phi) = (libm::sin(phi), libm::cos(phi));
        let (sin_lambda, cos_lambda) = (libm::sin(lambda), libm::cos(lambda));
        Self {
            anchor: at,
            origin: [cos_phi * cos_lambda, cos_phi * sin_lambda, sin_phi],
            east: [-sin_lambda, cos_lambda, 0.0],
            north: [-sin_phi * cos_lambda, -sin_phi * sin_lambda, cos_phi],
        }
    }

    fn spot(&self, at: LatLon, uncertainty_m: f64) -> Spot {
        let point = Self::at(at).origin;
        let along = |axis: &[f64; 3]| {
            let dot: f64 = (0..3).map(|i| (point[i] - self.origin[i]) * axis[i]).sum();
            (dot * EARTH_RADIUS_M) as f32
        };
        Spot { east: along(&self.east), north: along(&self.north), uncertainty: uncertainty_m as f32 }
    }

    fn place(&self, spot: Spot) -> LatLon {
        let (east, north) = (f64::from(spot.east) / EARTH_RADIUS_M, f64::from(spot.north) / EARTH_RADIUS_M);
        let [x, y, z] =
            core::array::from_fn(|i| self.origin[i] + east * self.east[i] + north * self.north[i]);
        let lat = libm::atan2(z, libm::sqrt(x * x + y * y)).to_degrees();
        LatLon::new(lat, libm::atan2(y, x).to_degrees()).unwrap_or(self.anchor)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A source of numbers in [-1, 1) that is the same everywhere.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }

        /// About Gaussian, standard deviation 1.
        fn gauss(&mut self) -> f64 {
            (0..12).map(|_| self.roll()).sum::<f64>() / 2.0
        }
    }

    fn fix(at: LatLon, grade: Grade) -> Fix {
        Fix {
            at,
            uncertainty_m: 10.0,
            utc_millis: None,
            rollovers: 0,
            satellites: Some(9),
            hdop: Some(0.9),
            speed_mps: Some(0.1),
            grade,
        }
    }

    fn shifted(at: LatLon, east: f64, north: f64) -> LatLon {
        at.travel(libm::atan2(east, north), libm::sqrt(east * east + north * north))
    }

    /// The error of a receiver at rest, metres: it wanders over ten minutes and trembles a little.
    struct Wander {
        dice: Dice,
        slow: [f64; 2],
    }

    impl Wander {
        fn new(seed: u64) -> Self {
            let mut dice = Dice(seed);
            dice.roll();
            let slow = [dice.gauss() * 3.0, dice.gauss() * 3.0];
            Self { dice, slow }
        }

        fn next(&mut self, at: LatLon) -> LatLon {
            let keep = libm::exp(-1.0 / 600.0);
            for axis in &mut self.slow {
                *axis = *axis * keep + self.dice.gauss() * 3.0 * libm::sqrt(1.0 - keep * keep);
            }
            let [east, north] = self.slow;
            shifted(at, east + self.dice.gauss() * 0.7, north + self.dice.gauss() * 0.7)
        }
    }

    /// Hears a receiver at `at` for `seconds` from `start` on.
    fn hear(
        still: &mut Still,
        wander: &mut Wander,
        at: LatLon,
        start: u32,
        seconds: u32,
    ) -> Vec<(u32, Moved)> {
        (start..start + seconds)
            .filter_map(|s| {
                let fix = fix(wander.next(at), Grade::Good);
                still.push(&fix, (s % 86_400) * 1000, u64::from(s) * 1000).map(|moved| (s, moved))
            })
            .collect()
    }

    fn tree() -> LatLon {
        LatLon::new(-1.292_1, 36.821_9).unwrap()
    }

    #[test]
    fn averaging_earns_its_uncertainty() {
        let (mut inside, mut looks, mut late) = (0, 0, Vec::new());
        for seed in 0..40 {
            let (mut still, mut wander) = (Still::default(), Wander::new(seed));
            for minute in 0..180 {
                let moved = hear(&mut still, &mut wander, tree(), minute * 60, 60);
                assert!(moved.is_empty() && !still.in_doubt(), "{moved:?}");
                let Estimate { at, uncertainty_m } = still.estimate().unwrap();
                assert!(uncertainty_m >= FLOOR_M);
                looks += 1;
                inside += u32::from(at.distance_m(tree()) <= uncertainty_m);
                if minute == 179 {
                    late.push(uncertainty_m);
                }
            }
        }
        assert!(f64::from(inside) >= 0.95 * f64::from(looks), "{inside} of {looks}");
        assert!(late.iter().all(|&u| u < 9.0), "{late:?}");
    }

    #[test]
    fn it_is_armed_by_five_good_fixes_that_agree() {
        let mut still = Still::default();
        let push = |still: &mut Still, s: u32, at, grade, speed| {
            let fix = Fix { speed_mps: Some(speed), ..fix(at, grade) };
            still.push(&fix, s * 1000, u64::from(s) * 1000);
            still.estimate().is_some()
        };
        let far = shifted(tree(), 400.0, 0.0);
        // a cold start's first fixes lie elsewhere; coarse ones and a car do not count
        let armed: Vec<bool> = (0..3).map(|s| push(&mut still, s, far, Grade::Good, 0.0)).collect();
        assert_eq!(armed, [false; 3]);
        assert!((3..20).all(|s| !push(&mut still, s, tree(), Grade::Coarse, 0.0)));
        assert!((20..40).all(|s| !push(&mut still, s, tree(), Grade::Good, 9.0)));
        assert!((40..44).all(|s| !push(&mut still, s, tree(), Grade::Good, 0.0)));
        // the same second again is the same fix
        assert!((0..9).all(|_| !push(&mut still, 43, tree(), Grade::Good, 0.0)));
        assert!(push(&mut still, 44, tree(), Grade::Good, 0.0));
    }

    #[test]
    fn a_move_is_told_once_and_the_estimate_starts_anew() {
        let places = [
            tree(),
            LatLon::new(-16.8, 179.999_9).unwrap(),
            LatLon::new(-16.8, -179.999_9).unwrap(),
            LatLon::new(89.9999, 12.0).unwrap(),
            LatLon::new(-90.0, 0.0).unwrap(),
        ];
        for (from, metres) in places.into_iter().flat_map(|at| [200.0, 5_000.0, 800_000.0].map(|m| (at, m))) {
            for bearing in [0.3, 1.6, 4.7] {
                let to = from.travel(bearing, metres);
                let (mut still, mut wander) = (Still::default(), Wander::new(7));
                assert!(hear(&mut still, &mut wander, from, 0, 1800).is_empty());
                let before = still.estimate().unwrap();
                assert!(before.at.distance_m(from) <= 15.0, "{from} {}", before.at);
                let moved = hear(&mut still, &mut wander, to, 1800, 1800);
                let [(second, Moved { distance_m, from: was, to: is })] = moved[..] else {
                    panic!("{from} {metres}: {moved:?}")
                };
                assert_eq!(second, 1860, "after a minute");
                assert_eq!(was, before.at);
                assert!((distance_m - metres).abs() < 30.0 && is.distance_m(to) < 15.0, "{distance_m}");
                assert!(still.estimate().unwrap().at.distance_m(to) < 15.0);
            }
        }
    }

    #[test]
    fn doubt_reaches_as_far_as_the_fixes_elsewhere() {
        let (mut still, mut wander) = (Still::default(), Wander::new(3));
        hear(&mut still, &mut wander, tree(), 0, 600);
        let sure = still.estimate().unwrap();
        let far = shifted(tree(), 3_000.0, 0.0);
        hear(&mut still, &mut wander, far, 600, 2);
        assert_eq!(still.estimate(), Some(sure), "two wrong seconds change nothing");
        hear(&mut still, &mut wander, far, 602, 10);
        let doubted = still.estimate().unwrap();
        assert_eq!(doubted.at, sure.at);
        assert!((2_950.0..3_100.0).contains(&doubted.uncertainty_m) && still.in_doubt());
        hear(&mut still, &mut wander, tree(), 620, 1);
        assert_eq!((still.estimate().unwrap().at, still.in_doubt()), (sure.at, false));
    }

    #[test]
    fn a_ride_hands_out_the_fixes_until_it_ends() {
        let (mut still, mut wander) = (Still::default(), Wander::new(3));
        hear(&mut still, &mut wander, tree(), 0, 600);
        let mut moved = Vec::new();
        for s in 600..1200u32 {
            let at = shifted(tree(), f64::from(s - 600) * 15.0, 0.0);
            let fix = Fix { speed_mps: Some(15.0), ..fix(at, Grade::Good) };
            moved.extend(still.push(&fix, s * 1000, u64::from(s) * 1000));
            // in the first minute it may be a slip of the receiver
            assert!(still.estimate().is_none() || s < 670, "{s}");
            assert!(still.estimate().is_some() || s > 660, "{s}");
        }
        assert!(moved.is_empty());
        let end = shifted(tree(), 9_000.0, 0.0);
        assert_eq!(hear(&mut still, &mut wander, end, 1200, 300).len(), 1);
        assert!(still.estimate().unwrap().at.distance_m(end) < 15.0);
    }

    /// A person who walks with the trap at a pace that receivers take for standing.
    #[test]
    fn a_walk_is_not_averaged_into_certainty() {
        let (mut still, mut wander) = (Still::default(), Wander::new(2));
        for s in 0..100u32 {
            let at = shifted(tree(), f64::from(s) * 0.9, 0.0);
            hear(&mut still, &mut wander, at, s, 1);
            if let Some(Estimate { at: estimate, uncertainty_m }) = still.estimate() {
                let error = estimate.distance_m(at);
                assert!(error <= 1.25 * uncertainty_m + 15.0, "{s}: {error} > {uncertainty_m}");
            }
        }
        assert!(still.estimate().unwrap().uncertainty_m > 20.0);
    }

    #[test]
    fn a_slow_drift_is_followed_or_told() {
        for metres_per_hour in [5.0, 50.0, 500.0] {
            let (mut still, mut wander) = (Still::default(), Wander::new(11));
            for minute in 0..240u32 {
                let at = shifted(tree(), f64::from(minute) / 60.0 * metres_per_hour, 0.0);
                hear(&mut still, &mut wander, at, minute * 60, 60);
                if let Some(Estimate { at: estimate, uncertainty_m }) = still.estimate() {
                    let error = estimate.distance_m(at);
                    assert!(
                        error <= 1.25 * uncertainty_m + 12.0,
                        "{metres_per_hour} m/h, minute {minute}: {error} > {uncertainty_m}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_earlier_boot_is_confirmed_or_left() {
        let mut still = Still::recalled(tree(), 6.0);
        let mut wander = Wander::new(5);
        assert_eq!(still.estimate(), Some(Estimate { at: tree(), uncertainty_m: 6.0 }));
        hear(&mut still, &mut wander, tree(), 0, 5);
        assert!(still.estimate().unwrap().at.distance_m(tree()) < 10.0);

        // carried off while it was switched off: the fix of now is believed at once, the move told in a minute
        let mut still = Still::recalled(tree(), 6.0);
        let there = shifted(tree(), 0.0, 2_000.0);
        hear(&mut still, &mut wander, there, 0, 1);
        assert_eq!(still.estimate(), None);
        assert_eq!(hear(&mut still, &mut wander, there, 1, 120).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        assert!(size_of::<Still>() < 2_600, "{}", size_of::<Still>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Up to a third of the fixes anywhere, never ten in a row: the estimate stays at the tree.
        #[test]
        fn outliers_do_not_move_it(
            seed in any::<u64>(), runs in proptest::collection::vec((10u32..40, 0u32..9, 100.0f64..2e6), 5..40),
            lat in -90.0f64..=90.0, lon in -180.0f64..=180.0,
        ) {
            let at = LatLon::new(lat, lon).unwrap();
            let (mut still, mut wander) = (Still::default(), Wander::new(seed));
            prop_assert!(hear(&mut still, &mut wander, at, 0, 60).is_empty());
            let mut now = 60;
            for (good, bad, metres) in runs {
                prop_assert!(hear(&mut still, &mut wander, at, now, good).is_empty());
                let far = at.travel(f64::from(bad), metres + 60.0);
                prop_assert!(hear(&mut still, &mut wander, far, now + good, bad).is_empty());
                now += good + bad;
                hear(&mut still, &mut wander, at, now, 1);
                now += 1;
                let off = still.estimate().unwrap().at.distance_m(at);
                prop_assert!(off < 20.0, "{off} m");
            }
        }

        /// The order of the fixes, and fixes given twice, matter less than the floor.
        #[test]
        fn order_and_duplicates_do_not_matter(seed in any::<u64>(), rotate in 0usize..900, twice in any::<bool>()) {
            let mut wander = Wander::new(seed);
            let fixes: Vec<LatLon> = (0..900).map(|_| wander.next(tree())).collect();
            let run = |order: &[LatLon], twice: bool| {
                let mut still = Still::default();
                for (s, at) in order.iter().enumerate() {
                    for _ in 0..=u8::from(twice) {
                        still.push(&fix(*at, Grade::Good), s as u32 * 1000, s as u64 * 1000);
                    }
                }
                still.estimate().unwrap()
            };
            let plain = run(&fixes, false);
            prop_assert_eq!(run(&fixes, true), plain);
            let mut turned = fixes.clone();
            turned.rotate_left(rotate);
            if twice { turned.reverse(); }
            let other = run(&turned, false);
            prop_assert!(plain.at.distance_m(other.at) <= plain.uncertainty_m.max(other.uncertainty_m));
        }

        #[test]
        fn any_fixes_are_taken(
            fixes in proptest::collection::vec((-90.0f64..=90.0, -180.0f64..=180.0, 0.0f64..1e9, any::<u32>(), any::<u64>(), any::<f32>()), 0..120),
        ) {
            let mut still = Still::default();
            for (lat, lon, uncertainty_m, time, now, speed) in fixes {
                let fix = Fix { uncertainty_m, speed_mps: Some(speed), ..fix(LatLon::new(lat, lon).unwrap(), Grade::Good) };
                still.push(&fix, time, now);
                if let Some(estimate) = still.estimate() {
                    prop_assert!(estimate.uncertainty_m >= 0.0);
                }
            }
        }

        /// Plane coordinates turn back into the place they came from, everywhere.
        #[test]
        fn planes_invert(lat in -90.0f64..=90.0, lon in -180.0f64..=180.0, bearing in 0.0f64..6.3, metres in 0.0f64..5e3) {
            let at = LatLon::new(lat, lon).unwrap();
            let (plane, there) = (Plane::at(at), at.travel(bearing, metres));
            let spot = plane.spot(there, 1.0);
            prop_assert!(plane.place(spot).distance_m(there) < 0.01 + metres * 1e-6);
        }
    }
}
