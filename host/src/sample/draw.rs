//! Draws a photograph: a scene that belongs to the camera, an animal of the genus, the species as a slight tint.

use csp_models::place::LatLon;
use image::{Rgb, RgbImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    SIDE,
    world::{normal, uniform, wetness},
};

/// Samples for each pixel and axis.
const OVERSAMPLING: u32 = 2;
/// How far the two species of a pair are from their mean, in colour and pattern; …
const SPECIES_SHIFT: f64 = 0.55;
/// … and how far individuals are from their species. The best guess from this alone is right about 7 times in 10.
const INDIVIDUAL_SHIFT: f64 = 1.0;

type Colour = [f64; 3];

/// The photograph number `index` of a sample: one species at a camera site.
pub(super) fn photograph(species: usize, place: &LatLon, site: usize, seed: u64, index: usize) -> RgbImage {
    let scene = Scene::new(*place, site, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + index as u64);
    let animal = Animal::new(species, &mut rng);
    let shot = Shot::new(&mut rng);
    let step = 1.0 / f64::from(SIDE * OVERSAMPLING);
    RgbImage::from_fn(SIDE, SIDE, |px, py| {
        let mut sum = [0.0; 3];
        for sub in 0..OVERSAMPLING * OVERSAMPLING {
            let x = (f64::from(px * OVERSAMPLING + sub % OVERSAMPLING) + 0.5) * step;
            let y = (f64::from(py * OVERSAMPLING + sub / OVERSAMPLING) + 0.5) * step;
            let colour = match shot.grass_at(x, y) {
                Some(shade) => scene.plants.map(|c| c * shade),
                None => animal.colour_at(x, y).unwrap_or_else(|| scene.colour_at(x, y)),
            };
            for (total, c) in sum.iter_mut().zip(colour) {
                *total += c / f64::from(OVERSAMPLING * OVERSAMPLING);
            }
        }
        // a uniform number of deviation 0.025: grain needs no tails
        let noise = 0.087 * (uniform(&mut rng) - 0.5);
        Rgb(shot.expose(sum, px, py).map(|c| ((c + noise).clamp(0.0, 1.0) * 255.0).round() as u8))
    })
}

/// What a camera always sees.
struct Scene {
    ground: Colour,
    sky: Colour,
    plants: Colour,
    horizon: f64,
    /// Bushes and rocks: centre, radius, shade.
    things: Vec<([f64; 2], f64, f64)>,
    waves: [f64; 4],
}

impl Scene {
    fn new(place: LatLon, site: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5ce_e5ce);
        rng.set_stream(site as u64);
        let wet = (wetness(place) + 0.18 * normal(&mut rng)).clamp(0.0, 1.0);
        let mix = |dry: Colour, green: Colour| [0, 1, 2].map(|i| dry[i] + wet * (green[i] - dry[i]));
        let mut thing = || {
            let at = [uniform(&mut rng), 0.35 + 0.6 * uniform(&mut rng)];
            (at, 0.04 + 0.12 * uniform(&mut rng), 0.6 + 0.7 * uniform(&mut rng))
        };
        let things = (0..5).map(|_| thing()).collect();
        Self {
            ground: mix([0.62, 0.52, 0.36], [0.34, 0.46, 0.24]),
            sky: mix([0.80, 0.80, 0.78], [0.55, 0.66, 0.62]),
            plants: mix([0.55, 0.48, 0.25], [0.20, 0.38, 0.14]),
            horizon: 0.18 + 0.2 * uniform(&mut rng),
            things,
            waves: [0; 4].map(|_| 6.0 * uniform(&mut rng)),
        }
    }

    fn colour_at(&self, x: f64, y: f64) -> Colour {
        for ([cx, cy], radius, shade) in &self.things {
            if (x - cx).powi(2) + (1.4 * (y - cy)).powi(2) < radius * radius {
                return self.plants.map(|c| c * shade);
            }
        }
        let [a, b, c, d] = self.waves;
        let ridge = self.horizon + 0.03 * (7.0 * x + a).sin();
        if y < ridge {
            return self.sky.map(|c| c * (1.0 - 0.2 * y));
        }
        let texture =
            0.06 * ((23.0 * x + b).sin() * (31.0 * y + c).sin() + (60.0 * y + 9.0 * x + d).sin() * 0.5);
        self.ground.map(|c| c * (0.85 + 0.3 * y) + texture)
    }
}

/// One individual in one pose. Its own coordinates: x from -1 (rear) to 1 (front), y down.
struct Animal {
    genus: usize,
    /// Tint and pattern: species and individual together.
    shift: f64,
    coat: Colour,
    centre: [f64; 2],
    size: f64,
    turn: (f64, f64),
    facing: f64,
    stride: f64,
    pattern: f64,
}

impl Animal {
    fn new(species: usize, rng: &mut ChaCha8Rng) -> Self {
        const COATS: [Colour; 4] =
            [[0.60, 0.44, 0.28], [0.78, 0.75, 0.68], [0.80, 0.60, 0.25], [0.26, 0.22, 0.20]];
        let side = if species.is_multiple_of(2) { 1.0 } else { -1.0 };
        let shift = SPECIES_SHIFT * side + INDIVIDUAL_SHIFT * normal(rng);
        // warm to cool; brightness is left alone, since light changes it anyway
        let tint = [0.035, 0.0, -0.035].map(|c| c * shift);
        let coat = COATS[species / 2];
        let angle = 0.12 * normal(rng);
        Self {
            genus: species / 2,
            shift,
            coat: [0, 1, 2].map(|i| coat[i] + tint[i]),
            centre: [0.36 + 0.28 * uniform(rng), 0.48 + 0.2 * uniform(rng)],
            size: 0.25 + 0.11 * uniform(rng),
            turn: angle.sin_cos(),
            facing: if uniform(rng) < 0.5 { 1.0 } else { -1.0 },
            stride: 0.12 * normal(rng),
            pattern: 6.0 * uniform(rng),
        }
    }

    fn colour_at(&self, x: f64, y: f64) -> Option<Colour> {
        let (dx, dy) = ((x - self.centre[0]) / self.size, (y - self.centre[1]) / self.size);
        let (sin, cos) = self.turn;
        let (x, y) = (self.facing * (cos * dx + sin * dy), cos * dy - sin * dx);
        if x.abs() > 1.6 || y.abs() > 1.2 {
            return None;
        }
        let shade = 1.0 - 0.25 * y;
        let lit = |colour: Colour| Some(colour.map(|c| c * shade));
        let dark = self.coat.map(|c| 0.3 * c);
        match self.genus {
            0 => self.velk(x, y).then(|| lit(self.coat)).flatten(),
            1 => {
                let stripes = ((9.0 + 0.5 * self.shift) * x + 1.5 * y * y + self.pattern).sin() > 0.15;
                self.orro(x, y).then(|| lit(if stripes { dark } else { self.coat })).flatten()
            }
            2 => {
                let (u, v) = (8.0 * x + self.pattern, 8.0 * y);
                let spot = u.sin() * v.sin() > 0.45 - 0.05 * self.shift;
                self.tamm(x, y).then(|| lit(if spot { dark } else { self.coat })).flatten()
            }
            _ => self.quill(x, y).and_then(|spine| {
                lit(if spine { self.coat.map(|c| (2.6 * c).min(0.95)) } else { self.coat })
            }),
        }
    }

    /// Slender, long legs and neck.
    fn velk(&self, x: f64, y: f64) -> bool {
        ellipse(x, y, [0.0, -0.05], [0.66, 0.24])
            || limb(x, y, [0.5, -0.1], [0.84, -0.62], 0.1)
            || ellipse(x, y, [0.96, -0.66], [0.2, 0.1])
            || self.legs(x, y, 0.95, 0.05)
            || limb(x, y, [-0.6, -0.1], [-0.78, 0.12], 0.05)
    }

    /// A striped barrel.
    fn orro(&self, x: f64, y: f64) -> bool {
        ellipse(x, y, [0.0, 0.0], [0.78, 0.46])
            || ellipse(x, y, [0.84, -0.12], [0.27, 0.24])
            || self.legs(x, y, 0.78, 0.1)
    }

    /// Low and spotted, with a long tail.
    fn tamm(&self, x: f64, y: f64) -> bool {
        ellipse(x, y, [0.0, 0.2], [0.82, 0.24])
            || ellipse(x, y, [0.88, 0.05], [0.21, 0.17])
            || limb(x, y, [0.84, -0.05], [0.8, -0.22], 0.06)
            || self.legs(x, y, 0.62, 0.07)
            || limb(x, y, [-0.75, 0.15], [-1.15, -0.15], 0.06)
            || limb(x, y, [-1.15, -0.15], [-1.1, -0.5], 0.06)
    }

    /// Round, with spines: `Some(true)` on a spine.
    fn quill(&self, x: f64, y: f64) -> Option<bool> {
        let (distance, direction) = (x.hypot(y), y.atan2(x));
        let spines = 0.5 + 0.34 * (14.0 * direction + self.pattern).sin().abs();
        if y < 0.15 && x < 0.45 && distance < spines && distance > 0.36 {
            return Some(true);
        }
        let body = distance < 0.5 || ellipse(x, y, [0.55, 0.16], [0.28, 0.14]) || self.legs(x, y, 0.68, 0.08);
        body.then_some(false)
    }

    fn legs(&self, x: f64, y: f64, down: f64, thick: f64) -> bool {
        [-0.48, -0.3, 0.3, 0.48].iter().enumerate().any(|(i, &at)| {
            let swing = if i % 2 == 0 { self.stride } else { -self.stride };
            limb(x, y, [at, 0.1], [at + swing, down], thick)
        })
    }
}

fn ellipse(x: f64, y: f64, [cx, cy]: [f64; 2], [rx, ry]: [f64; 2]) -> bool {
    ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) < 1.0
}

fn limb(x: f64, y: f64, [ax, ay]: [f64; 2], [bx, by]: [f64; 2], radius: f64) -> bool {
    let (dx, dy) = (bx - ax, by - ay);
    let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    (x - ax - along * dx).powi(2) + (y - ay - along * dy).powi(2) < radius * radius
}

/// What differs from one exposure to the next.
struct Shot {
    light: f64,
    balance: Colour,
    /// Infrared flash: grey, bright in the middle.
    night: bool,
    /// Blades in front: foot, tip, shade.
    grass: Vec<([f64; 2], [f64; 2], f64)>,
}

impl Shot {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let night = uniform(rng) < 0.25;
        let light = 1.0 + 0.14 * normal(rng);
        let warm = 0.03 * normal(rng);
        let blades = (12.0 * uniform(rng)) as usize;
        let mut blade = || {
            let foot = uniform(rng);
            let tip = [foot + 0.1 * normal(rng), 0.98 - 0.4 * uniform(rng)];
            ([foot, 1.02], tip, 0.8 + 0.6 * uniform(rng))
        };
        let grass = (0..blades).map(|_| blade()).collect();
        Self { light, balance: [1.0 + warm, 1.0, 1.0 - warm], night, grass }
    }

    fn grass_at(&self, x: f64, y: f64) -> Option<f64> {
        if y < 0.5 {
            return None;
        }
        self.grass.iter().find(|(foot, tip, _)| limb(x, y, *foot, *tip, 0.009)).map(|(.., shade)| *shade)
    }

    fn expose(&self, colour: Colour, px: u32, py: u32) -> Colour {
        if self.night {
            let grey = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2];
            let centre = |p: u32| f64::from(p) / f64::from(SIDE) - 0.5;
            let flash = 1.0 - 1.1 * (centre(px).powi(2) + centre(py).powi(2));
            return [self.light * flash * grey; 3];
        }
        [0, 1, 2].map(|i| self.light * self.balance[i] * colour[i])
    }
}
