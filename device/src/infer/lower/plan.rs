//! What a lowered region does, step by step, over buffers that outlive one picture.

use std::{
    fmt,
    mem::take,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::kernels::{
    Kernels,
    buffer::Buffer,
    depthwise::{Filters, depthwise},
    elementwise::{SumArgs, dense_f32, dense_i32, global_average, quantize, sum},
    gemm::{Weights, convolve},
    pool::Pool,
    window::Window,
};

/// A picture in a buffer: one pixel for what is outside, then the pixels, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Buffer: while building one for each picture, then shared by pictures that never meet.
    pub buffer: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Picture {
    /// Where the first pixel begins.
    pub fn origin(&self) -> usize {
        self.channels.next_multiple_of(64)
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Bytes of the buffer, slack apart; with room for taps that span several pixels.
    fn size(&self) -> usize {
        self.origin() + self.pixels() * self.channels + 256
    }
}

/// A row of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Vector {
    F32(Vec<f32>),
    I8(Vec<i8>),
    I32(Vec<i32>),
}

/// What goes into a region, or comes out of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Port {
    /// int8 `[1, C, H, W]`.
    Picture(Picture),
    /// Going in: f32 `[1, C, H, W]` to be quantized.
    Real { picture: Picture, scale: f32, zero: i8 },
    /// Going in: int8 `[1, C, H, W]`, into `picture` with `pad` rows above and columns left of it and
    /// `zero` around it. The first convolution reads it so: a row under its window lies in one piece.
    Framed { picture: Picture, size: [usize; 3], pad: [usize; 2], zero: i8 },
    /// `[1, N]` or `[1, N, 1, 1]`.
    Vector(usize),
}

/// One step. Numbers of vectors are places in the region's list of vectors.
#[derive(Debug)]
pub(super) enum Action {
    Convolve {
        x: Picture,
        out: Picture,
        zero: i8,
        window: Window,
        weights: Weights,
    },
    Depthwise {
        x: Picture,
        out: Picture,
        zero: i8,
        window: Window,
        filters: Filters,
    },
    Sum {
        a: Picture,
        b: Picture,
        out: Picture,
        args: SumArgs,
    },
    Average {
        x: Picture,
        out: usize,
        scale: f32,
        zero: i8,
    },
    Quantize {
        x: usize,
        out: usize,
        scale: f32,
        zero: i8,
    },
    /// `[k][n]` weights.
    DenseI32 {
        x: usize,
        out: usize,
        zero: i8,
        weights: Vec<i8>,
        columns: usize,
    },
    DenseF32 {
        x: usize,
        out: usize,
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    ToF32 {
        x: usize,
        out: usize,
    },
    Scale {
        x: usize,
        out: usize,
        by: Vec<f32>,
    },
    Shift {
        x: usize,
        out: usize,
        by: Vec<f32>,
    },
}

/// A step and the node it comes from.
#[derive(Debug)]
pub(super) struct Step {
    pub name: String,
    pub action: Action,
}

/// A region of the graph, ready to run.
pub(super) struct Plan {
    kernels: &'static Kernels,
    pool: Arc<Pool>,
    inputs: Vec<Port>,
    steps: Vec<Step>,
    outputs: Vec<Port>,
    /// Size of each buffer.
    buffers: Vec<usize>,
    vectors: usize,
    /// Memory of runs that ended, for those to come.
    idle: Mutex<Vec<Memory>>,
}

/// What one run works in.
#[derive(Debug, Default)]
struct Memory {
    buffers: Vec<Buffer>,
    vectors: Vec<Vector>,
}

/// A tensor that goes into a plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    I8(&'a [i8]),
    F32(&'a [f32]),
    I32(&'a [i32]),
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("kernels", &self.kernels.name).field("steps", &self.steps.len()).finish()
    }
}

impl Plan {
    /// Lays the pictures of `steps` out in as few buffers as their lives allow.
    pub fn new(
        kernels: &'static Kernels,
        pool: Arc<Pool>,
        mut inputs: Vec<Port>,
        mut steps: Vec<Step>,
        mut outputs: Vec<Port>,
        vectors: usize,
    ) -> Self {
        // Life of a picture: from the step that writes it to the last that reads it.
        let mut last: Vec<usize> = Vec::new();
        let mut seen = |picture: &Picture, at: usize| {
            if last.len() <= picture.buffer {
                last.resize(picture.buffer + 1, 0);
            }
            last[picture.buffer] = last[picture.buffer].max(at);
        };
        for port in &mut inputs {
            port.picture_mut().into_iter().for_each(|picture| seen(picture, 0));
        }
        for (at, step) in steps.iter_mut().enumerate() {
            step.action.pictures_mut().into_iter().for_each(|picture| seen(picture, at));
        }
        let end = steps.len();
        for port in &mut outputs {
            port.picture_mut().into_iter().for_each(|picture| seen(picture, end));
        }

        let mut layout = Layout { last, places: Vec::new(), buffers: Vec::new(), free_from: Vec::new() };
        for port in &mut inputs {
            port.picture_mut().into_iter().for_each(|picture| layout.place(picture, 0));
        }
        for (at, step) in steps.iter_mut().enumerate() {
            step.action.pictures_mut().into_iter().for_each(|picture| layout.place(picture, at));
        }
        for port in &mut outputs {
            port.picture_mut().into_iter().for_each(|picture| layout.place(picture, end));
        }
        Self {
            kernels,
            pool,
            inputs,
            steps,
            outputs,
            buffers: layout.buffers,
            vectors,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs the region; `None` when the tensors given are not those planned for. `clock` gets the time
    /// of each step.
    pub fn run(&self, given: &[Given<'_>], clock: Option<&mut Vec<Duration>>) -> Option<Vec<Vector>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = idle().pop().unwrap_or_else(|| Memory {
            buffers: self.buffers.iter().map(|&size| Buffer::new(size)).collect(),
            vectors: vec![Vector::I8(Vec::new()); self.vectors],
        });
        if given.len() != self.inputs.len() {
            return None;
        }
        for (port, given) in self.inputs.iter().zip(given) {
            memory.load(port, given)?;
        }
        match clock {
            None => {
                self.steps.iter().try_for_each(|step| memory.act(self.kernels, &self.pool, &step.action))?
            }
            Some(clock) => {
                for step in &self.steps {
                    let start = Instant::now();
                    memory.act(self.kernels, &self.pool, &step.action)?;
                    clock.push(start.elapsed());
                }
            }
        }
        let outputs = self.outputs.iter().map(|port| memory.store(port)).collect();
        idle().push(memory);
        outputs
    }

    /// The steps' nodes and what each is.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.steps.iter().map(|step| (step.name.as_str(), step.action.kind()))
    }
}

/// Gives pictures their buffers.
struct Layout {
    /// Last use, by picture.
    last: Vec<usize>,
    /// Buffer, by picture.
    places: Vec<Option<usize>>,
    buffers: Vec<usize>,
    /// First step at which a buffer is free again.
    free_from: Vec<usize>,
}

impl Layout {
    fn place(&mut self, picture: &mut Picture, at: usize) {
        let id = picture.buffer;
        if self.places.len() <= id {
            self.places.resize(id + 1, None);
        }
        let place = self.places[id].unwrap_or_else(|| {
            let size = picture.size();
            // Of those free: the one that fits closest, or grows least.
            let free = (0..self.buffers.len()).filter(|&buffer| self.free_from[buffer] <= at);
            let best = free.min_by_key(|&buffer| {
                let held = self.buffers[buffer];
                (size.saturating_sub(held), held)
            });
            best.unwrap_or_else(|| {
                self.buffers.push(0);
                self.free_from.push(0);
                self.buffers.len() - 1
            })
        });
        self.places[id] = Some(place);
        self.buffers[place] = self.buffers[place].max(picture.size());
        self.free_from[place] = self.free_from[place].max(self.last[id] + 1);
        picture.buffer = place;
    }
}

impl Port {
    fn picture_mut(&mut self) -> Option<&mut Picture> {
        match self {
            Self::Picture(picture) | Self::Real { picture, .. } | Self::Framed { picture, .. } => {
                Some(picture)
            }
            Self::Vector(_) => None,
        }
    }
}

impl Action {
    fn pictures_mut(&mut self) -> Vec<&mut Picture> {
        match self {
            Self::Convolve { x, out, .. } | Self::Depthwise { x, out, .. } => vec![x, out],
            Self::Sum { a, b, out, .. } => vec![a, b, out],
            Self::Average { x, .. } => vec![x],
            _ => vec![],
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Convolve { window, .. } if window.is_identity() => "pointwise convolution",
            Self::Convolve { .. } => "dense convolution",
            Self::Depthwise { .. } => "depthwise convolution",
            Self::Sum { .. } => "residual sum",
            Self::Average { .. } => "global average",
            Self::Quantize { .. } => "quantization of a vector",
            Self::DenseI32 { .. } => "int8 dense layer",
            Self::DenseF32 { .. } => "f32 dense layer",
            Self::ToF32 { .. } | Self::Scale { .. } | Self::Shift { .. } => "f32 vector",
        }
    }
}

impl Memory {
    fn load(&mut self, port: &Port, given: &Given<'_>) -> Option<()> {
        match (port, given) {
            (Port::Picture(picture), Given::I8(planes)) => {
                let channels = picture.channels;
                let out = self.buffers[picture.buffer].get_mut(picture.origin()..)?;
                (planes.len() == picture.pixels() * channels).then_some(())?;
                for (channel, plane) in planes.chunks_exact(picture.pixels()).enumerate() {
                    for (pixel, &value) in out.chunks_exact_mut(channels).zip(plane) {
                        pixel[channel] = value;
                    }
                }
            }
            (Port::Real { picture, scale, zero }, Given::F32(planes)) => {
                let channels = picture.channels;
                let out = self.buffers[picture.buffer].get_mut(picture.origin()..)?;
                (planes.len() == picture.pixels() * channels).then_some(())?;
                for (channel, plane) in planes.chunks_exact(picture.pixels()).enumerate() {
                    for (pixel, &value) in out.chunks_exact_mut(channels).zip(plane) {
                        pixel[channel] = quantize(value, *scale, *zero);
                    }
                }
            }
            (Port::Framed { picture, size: [channels, height, width], pad, zero }, Given::I8(planes)) => {
                (planes.len() == channels * height * width).then_some(())?;
                let out = self.buffers[picture.buffer].get_mut(picture.origin()..)?;
                out[..picture.pixels() * picture.channels].fill(*zero);
                let line = picture.width * picture.channels;
                for (channel, plane) in planes.chunks_exact(height * width).enumerate() {
                    let lines = out.chunks_exact_mut(line).skip(pad[0]);
                    for (row, line) in plane.chunks_exact(*width).zip(lines) {
                        let pixels = line.chunks_exact_mut(picture.channels).skip(pad[1]);
                        for (pixel, &value) in pixels.zip(row) {
                            pixel[channel] = value;
                        }
                    }
                }
            }
            (Port::Vector(at), given) => {
                self.vectors[*at] = match given {
                    Given::F32(numbers) => Vector::F32(numbers.to_vec()),
                    Given::I8(numbers) => Vector::I8(numbers.to_vec()),
                    Given::I32(numbers) => Vector::I32(numbers.to_vec()),
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn store(&self, port: &Port) -> Option<Vector> {
        match port {
            Port::Picture(picture) => {
                let x = &self.buffers[picture.buffer][picture.origin()..];
                let mut planes = Vec::with_capacity(picture.pixels() * picture.channels);
                for channel in 0..picture.channels {
                    let pixels = x.chunks_exact(picture.channels).take(picture.pixels());
                    planes.extend(pixels.map(|pixel| pixel[channel]));
                }
                Some(Vector::I8(planes))
            }
            Port::Vector(at) => self.vectors.get(*at).cloned(),
            Port::Real { .. } | Port::Framed { .. } => None,
        }
    }

    fn act(&mut self, kernels: &'static Kernels, pool: &Pool, action: &Action) -> Option<()> {
        match action {
            Action::Convolve { x, out, zero, window, weights } => {
                let mut to = take(&mut self.buffers[out.buffer]);
                let from = &mut self.buffers[x.buffer];
                from[..x.channels].fill(*zero);
                convolve(kernels, pool, window, weights, from, &mut to[out.origin()..]);
                self.buffers[out.buffer] = to;
            }
            Action::Depthwise { x, out, zero, window, filters } => {
                let mut to = take(&mut self.buffers[out.buffer]);
                let from = &mut self.buffers[x.buffer];
                from[..x.channels].fill(*zero);
                depthwise(kernels, pool, window, filters, from, &mut to[out.origin()..]);
                self.buffers[out.buffer] = to;
            }
            Action::Sum { a, b, out, args } => {
                let mut to = take(&mut self.buffers[out.buffer]);
                let of = |p: &Picture| &self.buffers[p.buffer][p.origin()..][..p.pixels() * p.channels];
                sum(
                    kernels,
                    pool,
                    args,
                    of(a),
                    of(b),
                    &mut to[out.origin()..][..out.pixels() * out.channels],
                );
                self.buffers[out.buffer] = to;
            }
            Action::Average { x, out, scale, zero } => {
                let pixels = &self.buffers[x.buffer][x.origin()..][..x.pixels() * x.channels];
                let means = global_average(pixels, x.channels, *scale, *zero);
                self.vectors[*out] = Vector::F32(means);
            }
            Action::Quantize { x, out, scale, zero } => {
                let bytes = self.real(*x)?.iter().map(|&value| quantize(value, *scale, *zero)).collect();
                self.vectors[*out] = Vector::I8(bytes);
            }
            Action::DenseI32 { x, out, zero, weights, columns } => {
                let Vector::I8(x) = &self.vectors[*x] else { return None };
                self.vectors[*out] = Vector::I32(dense_i32(kernels, x, *zero, weights, *columns));
            }
            Action::DenseF32 { x, out, weights, bias } => {
                self.vectors[*out] = Vector::F32(dense_f32(self.real(*x)?, weights, bias));
            }
            Action::ToF32 { x, out } => {
                let Vector::I32(x) = &self.vectors[*x] else { return None };
                self.vectors[*out] = Vector::F32(x.iter().map(|&x| x as f32).collect());
            }
            Action::Scale { x, out, by } => {
                let scaled = self.real(*x)?.iter().zip(by).map(|(x, by)| x * by).collect();
                self.vectors[*out] = Vector::F32(scaled);
            }
            Action::Shift { x, out, by } => {
                let shifted = self.real(*x)?.iter().zip(by).map(|(x, by)| x + by).collect();
                self.vectors[*out] = Vector::F32(shifted);
            }
        }
        Some(())
    }

    fn real(&self, at: usize) -> Option<&[f32]> {
        match self.vectors.get(at)? {
            Vector::F32(numbers) => Some(numbers),
            _ => None,
        }
    }
}
