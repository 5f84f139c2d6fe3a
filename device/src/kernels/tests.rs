//! Every kernel against a convolution written out, on all sets of kernels this processor runs.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::{
    Kernels, Requant,
    buffer::Buffer,
    depthwise::{Filters, depthwise},
    elementwise::{SumArgs, dense_i32, global_average, quantize, sum},
    gemm::{Weights, convolve},
    pool::Pool,
    scalar,
    window::Window,
};

/// One thread, and more than most outputs have tiles: results must not depend on it.
fn pools() -> &'static [Pool] {
    static POOLS: OnceLock<[Pool; 3]> = OnceLock::new();
    POOLS.get_or_init(|| [1, 2, 5].map(Pool::new))
}

/// A convolution with everything that may vary.
#[derive(Clone, Debug)]
struct Case {
    window: Window,
    columns: usize,
    seed: u64,
    /// Numbers at the ends of their range alone.
    extreme: bool,
    zeros: [i8; 2],
}

impl Case {
    fn noise(&self, salt: u64, count: usize, low: i8) -> Vec<i8> {
        let mut state = (self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match self.extreme {
                true if state & 1 << 40 == 0 => low,
                true => 127,
                false => ((state >> 20) as i8).max(low),
            }
        };
        (0..count).map(next).collect()
    }

    /// The picture `[pixel][channel]` and the buffer that holds it.
    fn input(&self) -> (Vec<i8>, Buffer) {
        let w = &self.window;
        let pixels = self.noise(1, w.input[0] * w.input[1] * w.channels, -128);
        let mut buffer = Buffer::new(w.reach());
        // what lies between and behind must not matter
        buffer.fill(77);
        buffer[..w.channels].fill(self.zeros[0]);
        buffer[w.origin..w.reach()].copy_from_slice(&pixels);
        (pixels, buffer)
    }

    fn requant(&self, channels: usize, terms: usize) -> Requant {
        let noise = |salt| self.noise(salt, channels, -127);
        let bias = noise(3).iter().map(|&b| i32::from(b) * 997).collect();
        let typical = 1.0 / (terms as f32).sqrt() / 90.0;
        let scale = noise(4).iter().map(|&s| typical * (0.3 + f32::from(s).abs() / 100.0)).collect();
        Requant::new(bias, scale, self.zeros[1])
    }

    /// `w(column, tap, input channel)`; `None`: the channel does not reach the column.
    fn expected(
        &self,
        columns: usize,
        w: impl Fn(usize, usize, usize) -> Option<i8>,
        r: &Requant,
    ) -> Vec<i8> {
        let (pixels, _) = self.input();
        let window = &self.window;
        let mut out = Vec::new();
        for y in 0..window.output[0] {
            for x in 0..window.output[1] {
                for column in 0..columns {
                    let mut total = 0i64;
                    for tap in 0..window.taps() {
                        let at = |side: usize, out: usize, tap: usize| {
                            (out * window.stride[side] + tap * window.dilation[side]) as isize
                                - window.pad[side] as isize
                        };
                        let (v, u) = (at(0, y, tap / window.kernel[1]), at(1, x, tap % window.kernel[1]));
                        let inside = (0..window.input[0] as isize).contains(&v)
                            && (0..window.input[1] as isize).contains(&u);
                        for channel in 0..window.channels {
                            let Some(weight) = w(column, tap, channel) else { continue };
                            let x = if inside {
                                let pixel = v as usize * window.input[1] + u as usize;
                                pixels[pixel * window.channels + channel]
                            } else {
                                self.zeros[0]
                            };
                            total += i64::from(x) * i64::from(weight);
                        }
                    }
                    let value = (total + i64::from(r.bias[column])) as i32 as f32 * r.scale[column];
                    let rounded = f64::from(value).round_ties_even() + f64::from(r.zero);
                    out.push(rounded.clamp(-128.0, 127.0) as i8);
                }
            }
        }
        out
    }
}

fn cases(channels: std::ops::Range<usize>, sides: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let window = (
        [sides.clone(), sides],
        prop_oneof![3 => Just([3, 3]), 2 => Just([1, 1]), 1 => Just([5, 5]), 1 => [1..5usize, 1..5usize]],
        [1..3usize, 1..3usize],
        [1..3usize, 1..3usize],
        [0..3usize, 0..3usize],
        channels,
    );
    (window, 1..80usize, any::<u64>(), any::<bool>(), any::<[i8; 2]>()).prop_filter_map(
        "the kernel is larger than the picture",
        |((input, kernel, stride, dilation, pad, channels), columns, seed, extreme, zeros)| {
            let mut output = [0; 2];
            for side in 0..2 {
                let reach = (kernel[side] - 1) * dilation[side] + 1;
                let room = (input[side] + 2 * pad[side]).checked_sub(reach)?;
                output[side] = room / stride[side] + 1;
            }
            let origin = (channels + 64).next_multiple_of(64);
            let window =
                Window { input, output, kernel, stride, dilation, pad, channels, span: channels, origin };
            Some(Case { window, columns, seed, extreme, zeros })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn dense(case in cases(1..70, 1..12)) {
        let (columns, depth, taps) = (case.columns, case.window.channels, case.window.taps());
        let weights = case.noise(2, columns * depth * taps, -127);
        let requant = case.requant(columns, depth * taps);
        let weight = |column: usize, tap: usize, d: usize| weights[(column * taps + tap) * depth + d];
        let expected = case.expected(columns, |column, tap, d| Some(weight(column, tap, d)), &requant);
        let (_, input) = case.input();
        for kernels in Kernels::available() {
            let packed = Weights::pack(kernels, [columns, taps, depth], &weights, requant.clone());
            for pool in pools() {
                let mut out = vec![55; expected.len() + 9];
                convolve(kernels, pool, &case.window, &packed, &input, &mut out);
                let who = format!("{}, {pool:?}", kernels.name);
                prop_assert_eq!(&out[..expected.len()], &expected[..], "{}", who);
                prop_assert!(out[expected.len()..].iter().all(|&b| b == 55), "{} writes too far", who);
            }
        }
    }

    #[test]
    fn one_filter_a_channel(case in cases(1..150, 1..10)) {
        let (channels, taps) = (case.window.channels, case.window.taps());
        let weights = case.noise(2, channels * taps, -127);
        let requant = case.requant(channels, taps);
        let weight = |channel: usize, tap: usize| weights[channel * taps + tap];
        let expected =
            case.expected(channels, |column, tap, d| (column == d).then(|| weight(d, tap)), &requant);
        let (_, input) = case.input();
        let filters = Filters::pack([channels, taps], weight, requant);
        for kernels in Kernels::available() {
            for pool in pools() {
                let mut out = vec![55; expected.len() + 9];
                depthwise(kernels, pool, &case.window, &filters, &input, &mut out);
                let who = format!("{}, {pool:?}", kernels.name);
                prop_assert_eq!(&out[..expected.len()], &expected[..], "{}", who);
                prop_assert!(out[expected.len()..].iter().all(|&b| b == 55), "{} writes too far", who);
            }
        }
    }

    #[test]
    fn residual_sum_and_dense_layer(
        a in prop::collection::vec(any::<i8>(), 1..200),
        seed in any::<u8>(),
        zeros in any::<[i8; 3]>(),
        scales in [0.001f32..0.3, 0.001f32..0.3, 0.001f32..0.5],
    ) {
        let b: Vec<i8> = a.iter().map(|&a| (a as u8).wrapping_mul(seed | 1).wrapping_add(seed) as i8).collect();
        let args = SumArgs {
            scales: [scales[0], scales[1]],
            zeros: [zeros[0], zeros[1]],
            scale: scales[2],
            zero: zeros[2],
        };
        let real = |x: i8, i: usize| (i32::from(x) - i32::from(zeros[i])) as f32 * scales[i];
        let expected: Vec<i8> =
            a.iter().zip(&b).map(|(&a, &b)| quantize(real(a, 0) + real(b, 1), scales[2], zeros[2])).collect();
        for kernels in Kernels::available() {
            let columns = 1 + usize::from(seed) % 90;
            let weights: Vec<i8> = (0..a.len() * columns).map(|i| a[i % a.len()].wrapping_mul(i as i8)).collect();
            let expected: Vec<i32> = (0..columns)
                .map(|n| {
                    let products = a.iter().enumerate().map(|(k, &x)| {
                        (i32::from(x) - i32::from(zeros[0])) * i32::from(weights[k * columns + n])
                    });
                    products.sum()
                })
                .collect();
            prop_assert_eq!(dense_i32(kernels, &a, zeros[0], &weights, columns), expected, "{}", kernels.name);
        }
        for kernels in Kernels::available() {
            for pool in pools() {
                let mut out = vec![0; a.len()];
                sum(kernels, pool, &args, &a, &b, &mut out);
                prop_assert_eq!(&out, &expected, "{}, {:?}", kernels.name, pool);
            }
        }
    }
}

#[test]
fn sums_beyond_the_output_saturate_and_ties_go_to_even() {
    let cases: [(i32, f32, i8, i8); 8] = [
        (1, 0.5, 0, 0),
        (3, 0.5, 0, 2),
        (-1, 0.5, 3, 3),
        (5, 0.5, -1, 1),
        (i32::MAX, 1e30, -128, 127),
        (i32::MIN, 1e30, 127, -128),
        (i32::MAX, 1.0, 127, 127),
        (i32::MIN, 1.0, -128, -128),
    ];
    for (sum, scale, zero, expected) in cases {
        assert_eq!(scalar::requant(sum, 0, scale, zero), expected, "{sum} · {scale} + {zero}");
        // one pixel of zeros, so that the sum is the bias
        let window = Window {
            input: [1, 1],
            output: [1, 1],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            channels: 16,
            span: 16,
            origin: 64,
        };
        let requant = Requant::new(vec![sum; 16], vec![scale; 16], zero);
        let filters = Filters::pack([16, 1], |_, _| 0, requant.clone());
        for kernels in Kernels::available() {
            let packed = Weights::pack(kernels, [16, 1, 16], &[0; 256], requant.clone());
            let (input, mut out) = (Buffer::new(window.reach()), [0; 16]);
            convolve(kernels, &pools()[0], &window, &packed, &input, &mut out);
            assert_eq!(out, [expected; 16], "{}", kernels.name);
            depthwise(kernels, &pools()[0], &window, &filters, &input, &mut out);
            assert_eq!(out, [expected; 16], "{}", kernels.name);
        }
    }
}

#[test]
fn averages_keep_the_order_of_their_sums() {
    // 7 pixels of one channel, at a scale no sum is exact in
    let x = [100, -3, 57, 9, -128, 127, 31];
    let s = 0.0371f32;
    let real: Vec<f32> = x.iter().map(|&x| (f32::from(x) - 5.0) * s).collect();
    let four = (real[0] + real[2]) + (real[1] + real[3]);
    let expected = (((four + real[4]) + real[5]) + real[6]) / 7.0;
    assert_eq!(global_average(&x, 1, s, 5), [expected]);
}

#[test]
fn kernels_can_be_forced() {
    assert_eq!(Kernels::named(Some("scalar")).unwrap().name, "scalar");
    assert_eq!(Kernels::named(Some("")).unwrap().name, Kernels::named(None).unwrap().name);
    let error = Kernels::named(Some("mmx")).unwrap_err();
    assert!(error.contains("mmx") && error.contains("scalar"), "{error}");
}
