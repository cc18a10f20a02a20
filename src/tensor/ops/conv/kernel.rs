//! The innermost loops: blocks of sums held in registers, one source for every instruction set (through `pulp`).

use super::pass::Pixels;
use pulp::{Arch, Simd, WithSimd};

/// What an instruction set offers for f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// f32 in a register.
    pub lanes: usize,
    pub count: usize,
}

impl Registers {
    pub fn of(arch: Arch) -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = Registers;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Registers {
                Registers { lanes: S::F32_LANES, count: S::REGISTER_COUNT }
            }
        }
        arch.dispatch(Ask)
    }

    /// How many rows of `vectors` sums fit beside one row of `vectors` factors and one broadcast.
    pub const fn rows(self, vectors: usize) -> usize {
        let rows = (self.count - vectors - 1) / vectors;
        if rows < MAX_ROWS { rows } else { MAX_ROWS }
    }
}

/// Rows of the largest block: two vectors each and 32 registers.
const MAX_ROWS: usize = 14;

/// Vectors of a full panel of channels.
pub const PANEL_VECTORS: usize = 2;

/// Some neighbouring floats of the source and the packed weights they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// From the pixel's place in the source.
    pub source: isize,
    /// Rows from the panel's start.
    pub weights: usize,
}

/// `target[p][c] = sum over runs, k of source[p][run + k] * weights[run + k][c]` for some pixels `p` at a fixed step and
/// the channels `c` of a panel.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    pub source: *const f32,
    /// Floats between two pixels of the source.
    pub source_step: usize,
    pub runs: &'a [Run],
    /// Floats of a run.
    pub length: usize,
    /// `[k][channel]`, the channels filled up to whole vectors.
    pub weights: *const f32,
    pub target: *mut f32,
    pub target_step: usize,
    /// Channels to write.
    pub channels: usize,
}

/// Computes a tile of `pixels` times `vectors`.
///
/// # Safety
/// Every place of the source, weights and target that the [`Tile`] names must be inside its allocation and the target's
/// be this thread's to write. `1 <= pixels <= Registers::rows(vectors)`, `vectors` is 1 or 2 and holds `channels`.
pub unsafe fn tile(arch: Arch, pixels: usize, vectors: usize, tile: Tile) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match (vectors, pixels) {
                $((1, $rows) => arch.dispatch(Sums::<$rows, 1>(tile)),
                (2, $rows) => arch.dispatch(Sums::<$rows, 2>(tile)),)*
                _ => unreachable!("no tile of {pixels} x {vectors}"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

struct Sums<'a, const P: usize, const V: usize>(Tile<'a>);

impl<const P: usize, const V: usize> WithSimd for Sums<'_, P, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if !fits::<S>(P, V) {
            unreachable!("{P} x {V} sums in {} registers", S::REGISTER_COUNT);
        }
        let t = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        for run in t.runs {
            let mut source = t.source.wrapping_offset(run.source);
            let mut weights = t.weights.wrapping_add(run.weights * V * S::F32_LANES);
            for _ in 0..t.length {
                // SAFETY: the caller of `tile` promised that the run lies inside source and weights.
                unsafe {
                    let factors: [S::f32s; V] = std::array::from_fn(|v| load::<S>(weights.add(v * S::F32_LANES)));
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let value = simd.splat_f32s(*source.add(p * t.source_step));
                        for (sum, factor) in sums.iter_mut().zip(factors) {
                            *sum = multiply_add(simd, value, factor, *sum);
                        }
                    }
                }
                source = source.wrapping_add(1);
                weights = weights.wrapping_add(V * S::F32_LANES);
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            // SAFETY: the caller of `tile` promised that these channels may be written.
            unsafe { store_row(simd, t.target.add(p * t.target_step), sums, t.channels) }
        }
    }
}

/// `sums[row][lane] += sum over pixels of x[pixel][row] * dy[pixel][lane]`.
#[derive(Clone, Copy)]
pub struct Outer<'a> {
    pub x: *const f32,
    /// `[pixel][lane]`.
    pub dy: *const f32,
    /// A place in `x` and a pixel of `dy` each.
    pub pixels: &'a [(u32, u32)],
    pub sums: *mut f32,
}

/// Adds outer products of `rows` times `vectors`.
///
/// # Safety
/// At every pixel `rows` floats of `x` and `vectors` of `dy` must be readable, and `sums` hold `rows` times `vectors` to
/// read and write. `1 <= rows <= Registers::rows(vectors)`, `vectors` is 1 or 2.
pub unsafe fn outer(arch: Arch, rows: usize, vectors: usize, outer: Outer) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match (vectors, rows) {
                $((1, $rows) => arch.dispatch(OuterSums::<$rows, 1>(outer)),
                (2, $rows) => arch.dispatch(OuterSums::<$rows, 2>(outer)),)*
                _ => unreachable!("no outer product of {rows} x {vectors}"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

struct OuterSums<'a, const R: usize, const V: usize>(Outer<'a>);

impl<const R: usize, const V: usize> WithSimd for OuterSums<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if !fits::<S>(R, V) {
            unreachable!("{R} x {V} sums in {} registers", S::REGISTER_COUNT);
        }
        let Outer { x, dy, pixels, sums: to } = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for &(source, pixel) in pixels {
            let x = x.wrapping_add(source as usize);
            let dy = dy.wrapping_add(pixel as usize * V * S::F32_LANES);
            // SAFETY: the caller of `outer` promised these floats.
            unsafe {
                let factors: [S::f32s; V] = std::array::from_fn(|v| load::<S>(dy.add(v * S::F32_LANES)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*x.add(r));
                    for (sum, factor) in sums.iter_mut().zip(factors) {
                        *sum = multiply_add(simd, value, factor, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: the caller of `outer` promised these sums.
                unsafe {
                    let to = to.add((r * V + v) * S::F32_LANES);
                    to.cast::<S::f32s>().write_unaligned(simd.add_f32s(load::<S>(to), *sum));
                }
            }
        }
    }
}

/// `target[p][c] = sum over runs of source[p][run][c] * weights[run][c]` for some pixels `p` and all channels `c`.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    pub source: *const f32,
    pub source_step: usize,
    /// One pixel each.
    pub runs: &'a [Run],
    /// `[tap][channel]`.
    pub weights: *const f32,
    pub target: *mut f32,
    pub target_step: usize,
    pub channels: usize,
}

/// Computes `pixels` of a depthwise convolution.
///
/// # Safety
/// At every pixel and run all channels must be readable, every run's weights too, and the target's be this thread's to
/// write. `pixels` is 1 to 8.
pub unsafe fn channels(arch: Arch, pixels: usize, work: Channels) {
    match pixels {
        1 => arch.dispatch(ChannelSums::<1>(work)),
        2 => arch.dispatch(ChannelSums::<2>(work)),
        3 => arch.dispatch(ChannelSums::<3>(work)),
        4 => arch.dispatch(ChannelSums::<4>(work)),
        5 => arch.dispatch(ChannelSums::<5>(work)),
        6 => arch.dispatch(ChannelSums::<6>(work)),
        7 => arch.dispatch(ChannelSums::<7>(work)),
        8 => arch.dispatch(ChannelSums::<8>(work)),
        _ => unreachable!("no line of {pixels} pixels"),
    }
}

struct ChannelSums<'a, const P: usize>(Channels<'a>);

impl<const P: usize> WithSimd for ChannelSums<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let t = self.0;
        let whole = t.channels / S::F32_LANES * S::F32_LANES;
        for at in (0..whole).step_by(S::F32_LANES) {
            // SAFETY: promised by the caller of `channels`.
            unsafe { channel_sums::<S, P>(simd, &t, at, |from| load::<S>(from), |to, v| store::<S>(to, v)) }
        }
        if whole < t.channels {
            let mask = first::<S>(simd, t.channels - whole);
            // SAFETY: as above; the mask hides what lies behind the last channel.
            unsafe {
                let load = |from| simd.mask_load_ptr_f32s(mask, from);
                channel_sums::<S, P>(simd, &t, whole, load, |to, v| simd.mask_store_ptr_f32s(mask, to, v))
            }
        }
    }
}

/// # Safety
/// `load` and `store` may be used at the channels from `at` of every pixel and run.
#[inline(always)]
unsafe fn channel_sums<S: Simd, const P: usize>(
    simd: S,
    t: &Channels,
    at: usize,
    load: impl Fn(*const f32) -> S::f32s,
    store: impl Fn(*mut f32, S::f32s),
) {
    let mut sums = [simd.splat_f32s(0.0); P];
    for run in t.runs {
        let weight = load(t.weights.wrapping_add(run.weights * t.channels + at));
        let source = t.source.wrapping_offset(run.source).wrapping_add(at);
        for (p, sum) in sums.iter_mut().enumerate() {
            *sum = multiply_add(simd, load(source.wrapping_add(p * t.source_step)), weight, *sum);
        }
    }
    for (p, sum) in sums.iter().enumerate() {
        store(t.target.wrapping_add(p * t.target_step + at), *sum);
    }
}

/// `sums[run][c] += sum over pixels of x[pixel][run][c] * dy[pixel][c]` for all channels `c`.
#[derive(Clone, Copy)]
pub struct Products<'a> {
    pub x: *const f32,
    pub dy: *const f32,
    pub pixels: &'a Pixels,
    /// One pixel each.
    pub runs: &'a [Run],
    /// `[tap][channel]`.
    pub sums: *mut f32,
    pub channels: usize,
}

/// Adds the products of a depthwise convolution's weight gradient.
///
/// # Safety
/// At every pixel all channels of `dy`, and of `x` at every run, must be readable, and the sums of every run be this
/// thread's to read and write.
pub unsafe fn products(arch: Arch, work: Products) {
    const MOST: usize = 13;
    let parts = work.runs.len().div_ceil(MOST);
    for part in 0..parts {
        let runs = &work.runs[part * work.runs.len() / parts..(part + 1) * work.runs.len() / parts];
        let work = Products { runs, ..work };
        macro_rules! taps {
            ($($taps:literal)*) => {
                match runs.len() {
                    $($taps => arch.dispatch(TapSums::<$taps>(work)),)*
                    taps => unreachable!("no block of {taps} taps"),
                }
            };
        }
        taps!(1 2 3 4 5 6 7 8 9 10 11 12 13)
    }
}

struct TapSums<'a, const T: usize>(Products<'a>);

impl<const T: usize> WithSimd for TapSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let t = self.0;
        let whole = t.channels / S::F32_LANES * S::F32_LANES;
        for at in (0..whole).step_by(S::F32_LANES) {
            // SAFETY: promised by the caller of `products`.
            unsafe { tap_sums::<S, T>(simd, &t, at, |from| load::<S>(from), |to, v| store::<S>(to, v)) }
        }
        if whole < t.channels {
            let mask = first::<S>(simd, t.channels - whole);
            // SAFETY: as above; the mask hides what lies behind the last channel.
            unsafe {
                let load = |from| simd.mask_load_ptr_f32s(mask, from);
                tap_sums::<S, T>(simd, &t, whole, load, |to, v| simd.mask_store_ptr_f32s(mask, to, v))
            }
        }
    }
}

/// # Safety
/// `load` and `store` may be used at the channels from `at` of every pixel, run and sum.
#[inline(always)]
unsafe fn tap_sums<S: Simd, const T: usize>(
    simd: S,
    t: &Products,
    at: usize,
    load: impl Fn(*const f32) -> S::f32s,
    store: impl Fn(*mut f32, S::f32s),
) {
    let shifts: [isize; T] = std::array::from_fn(|tap| t.runs[tap].source);
    let mut sums = [simd.splat_f32s(0.0); T];
    let [images, rows, columns] = t.pixels.loops;
    for image in 0..images.count {
        for row in 0..rows.count {
            let mut x = t.x.wrapping_add(t.pixels.source + at + image * images.source + row * rows.source);
            let mut dy = t.dy.wrapping_add(t.pixels.target + at + image * images.target + row * rows.target);
            for _ in 0..columns.count {
                let gradient = load(dy);
                for (sum, shift) in sums.iter_mut().zip(shifts) {
                    *sum = multiply_add(simd, load(x.wrapping_offset(shift)), gradient, *sum);
                }
                x = x.wrapping_add(columns.source);
                dy = dy.wrapping_add(columns.target);
            }
        }
    }
    for (sum, run) in sums.iter().zip(t.runs) {
        let to = t.sums.wrapping_add(run.weights * t.channels + at);
        store(to, simd.add_f32s(load(to), *sum));
    }
}

/// A mask of the first lanes.
#[inline(always)]
fn first<S: Simd>(simd: S, lanes: usize) -> pulp::MemMask<S::m32s> {
    simd.mask_between_m32s(0, lanes as u32)
}

/// # Safety
/// A whole vector can be written at `to`.
#[inline(always)]
unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: promised by the caller; vectors are plain floats.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Whether a block of sums leaves room for its factors.
#[inline(always)]
fn fits<S: Simd>(rows: usize, vectors: usize) -> bool {
    rows <= Registers { lanes: S::F32_LANES, count: S::REGISTER_COUNT }.rows(vectors)
}

/// `a * b + c`, fused where the processor can.
#[inline(always)]
pub fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // A scalar fused multiply-add without the instruction is a library call.
    if S::IS_SCALAR { simd.add_f32s(simd.mul_f32s(a, b), c) } else { simd.mul_add_f32s(a, b, c) }
}

/// # Safety
/// A whole vector can be read at `from`.
#[inline(always)]
pub unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: promised by the caller; vectors are plain floats.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `channels` floats can be written at `to`.
#[inline(always)]
unsafe fn store_row<S: Simd, const V: usize>(simd: S, to: *mut f32, row: &[S::f32s; V], channels: usize) {
    for (v, value) in row.iter().enumerate() {
        let left = channels - v * S::F32_LANES;
        // SAFETY: promised by the caller; the mask hides what lies behind the last channel.
        unsafe {
            let to = to.add(v * S::F32_LANES);
            match left >= S::F32_LANES {
                true => to.cast::<S::f32s>().write_unaligned(*value),
                false => simd.mask_store_ptr_f32s(simd.mask_between_m32s(0, left as u32), to, *value),
            }
        }
    }
}
